//! What the figures were measured on, and what a process takes of it. From `/proc`: elsewhere these things are not known.

use std::fs;
use std::process::Command;
use std::time::Duration;

/// Under which scheduler this thread runs, in words.
///
/// At normal priority on a busy machine, a thread that wakes from the disk waits for the next tick of whoever has the
/// processor: a sync of 150 us then takes 4 ms, and every ratio of syncs tends to 1.
pub(crate) fn scheduler() -> &'static str {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The process's name may hold spaces, but ends with the last bracket; behind it, `policy` is the 39th field.
    let policy = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(38));
    match policy {
        Some("1") => "real-time (SCHED_FIFO)",
        Some("2") => "real-time (SCHED_RR)",
        Some(_) => "normal (on a busy machine, run syncs under `chrt -f 1`)",
        None => "unknown",
    }
}

/// Kernel, processor, memory.
pub(crate) fn description() -> String {
    let line = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let value = text.lines().find(|line| line.starts_with(key)).and_then(|line| line.split_once(':'));
        value.map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cores} x {}, {}, {} {}",
        line("/proc/cpuinfo", "model name"),
        line("/proc/meminfo", "MemTotal"),
        std::env::consts::OS,
        kernel.trim()
    )
}

/// Today and the time, as `date` says it.
pub(crate) fn date() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    output.map_or("unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The load average of the last minute.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("unknown").to_owned()
}

/// Processor time so far of all threads but the first, which asks.
pub(crate) fn cpu_time_of_others() -> Duration {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let first = std::process::id().to_string();
    let others = tasks.flatten().filter(|task| *task.file_name() != *first);
    let nanos = |path| fs::read_to_string(path).ok()?.split(' ').next()?.parse::<u64>().ok();
    Duration::from_nanos(others.filter_map(|task| nanos(task.path().join("schedstat"))).sum())
}

/// What a file takes of its file system, which is less than its length when it has holes.
#[cfg(unix)]
pub(crate) fn bytes_on_disk(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}

/// A file's length.
#[cfg(not(unix))]
pub(crate) fn bytes_on_disk(path: &std::path::Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Memory of this process in bytes, as `/proc/self/status` names it: `VmHWM` is the most it ever had, `VmRSS` what it has.
pub(crate) fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kilobytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")).and_then(|number| number.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
