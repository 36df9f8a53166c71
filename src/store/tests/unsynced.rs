//! Goal: what a store shows when it is opened after a failed sync stays, whatever memory showed of what that sync did not
//! write. Method: each sync of a workload fails, the store is opened again, goes on, and power goes on the way.

use crate::disk::sim_disk::Keep;

use super::*;

/// What is stored: the log start and the end.
type Seen = (u64, u64);

fn seen(store: &Store) -> Seen {
    let row = partition(store, LOG);
    let read = read_all(store, LOG, row.log_start.get(), 1).unwrap();
    assert_eq!(read.len() as u64, row.end - row.log_start);
    assert_in_order(store);
    (row.log_start.get(), row.end.get())
}

/// The pages of redb and the chunks become more and fewer, and move. Calls `done` with what each step has stored.
fn steps(store: &Store, base: u64, mut done: impl FnMut(Seen)) -> Result<()> {
    let log_start_before = partition(store, LOG).log_start.get();
    let put = |base| append(store, LOG, &[batch(LOG, base, &[1], 5_000)]);
    for offset in base..base + 4 {
        put(offset)?;
        done((log_start_before, offset + 1));
    }
    let log_start = base + 3;
    store.update(Purpose::Free, |update| update.set_log_start(LOG, Offset::new(log_start)))?;
    done((log_start, base + 4));
    while store.update(Purpose::Free, |update| update.free_below_log_start(LOG, 2))?.more {}
    store.vacuum()?;
    put(base + 4)?;
    done((log_start, base + 5));
    Ok(())
}

fn open(sim: &SimDisk, label: &str) -> Store {
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    Store::open(&disk, Path::new(PATH), OPTIONS).unwrap_or_else(|error| panic!("{label}: {error}"))
}

#[test]
fn what_was_seen_after_a_failed_sync_stays() {
    let started = || {
        let (sim, disk) = sim();
        let store = create_and_open(&disk);
        store.update(Purpose::Grow, |update| update.put_topic(&topic(0))).unwrap();
        (sim, store)
    };
    let syncs = {
        let (sim, store) = started();
        let before = sim.calls(Op::Sync, PATH);
        steps(&store, 0, |_| {}).unwrap();
        store.close().unwrap();
        sim.calls(Op::Sync, PATH) - before
    };
    assert!(syncs > 20, "{syncs}");
    for nth in 0..syncs {
        // What the failed sync wrote, and what memory shows of the rest.
        for case in 0..4_u64 {
            let label = format!("sync {nth}, case {case}");
            let (sim, store) = started();
            sim.set_failed_sync_seed((case > 1).then_some(case + nth as u64));
            sim.fail(fault(Op::Sync, nth, std::io::ErrorKind::Other, Repeat::Once));
            let mut acknowledged = (0, 0);
            // The store does not need the sync of its reserve.
            let _ = steps(&store, 0, |seen| acknowledged = seen).and_then(|()| store.close());
            drop(store);
            sim.clear_faults();
            if case % 2 == 1 {
                sim.evict((case > 1).then_some(nth as u64));
            }
            let store = open(&sim, &label);
            let first = seen(&store);
            assert!(first >= acknowledged && first.1 <= acknowledged.1 + 1, "{label}: {first:?}, {acknowledged:?}");
            let opened_at = sim.operations();
            steps(&store, first.1, |_| {}).unwrap_or_else(|error| panic!("{label}: {error}"));
            for at in (opened_at..sim.operations()).filter(|at| at % 11 == nth % 11) {
                let random = at as u64;
                let keep = [Keep::None, Keep::Torn(random), Keep::Random(random)][at % 3];
                let label = format!("{label}, power cut at {at}, {keep:?}");
                let later = seen(&open(&sim.image(at, keep), &label));
                assert!(later.0 >= first.0 && later.1 >= first.1, "{label}: {later:?} after {first:?}");
            }
        }
    }
}
