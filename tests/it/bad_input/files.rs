//! Files that are open already, something else, missing or in the way.

use std::fs;
use std::path::Path;
use std::process::Command;

use brooklet::{Broker, Error, NewTopic, ProducerRecord};

use crate::support::{TestBroker, finishes, tp};

/// Tells the child process of [`a_second_process_is_refused_at_once`] which file to open.
const PATH_VARIABLE: &str = "BROOKLET_TEST_OPEN";

#[test]
fn a_second_broker_in_the_same_process_is_refused_at_once() {
    let broker = TestBroker::new().with_topic("t", 1);
    let path = broker.path();
    for builder in [Broker::builder(), Broker::builder().open_existing()] {
        let path = path.clone();
        let error = finishes("opening twice", move || builder.open(path).unwrap_err());
        assert!(matches!(error, Error::AlreadyOpen { .. }) && error.is_retriable(), "{error}");
    }
    broker.produce_n("t", 0, 3);
    assert_eq!(broker.consume_all(&tp("t", 0)).len(), 3, "the first is not disturbed");
}

/// The child half: does nothing unless it is started by the parent half.
#[test]
fn child_that_opens_a_file() {
    if let Some(path) = std::env::var_os(PATH_VARIABLE) {
        match Broker::open(path) {
            Ok(broker) => println!("topics: {:?}", broker.topics().unwrap()),
            Err(Error::AlreadyOpen { .. }) => println!("already open"),
            Err(error) => println!("error: {error}"),
        }
    }
}

/// What the child says about opening `path`.
fn open_in_another_process(path: &Path) -> String {
    let name = "bad_input::files::child_that_opens_a_file";
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", name, "--nocapture"]).env(PATH_VARIABLE, path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_second_process_is_refused_at_once() {
    let mut broker = TestBroker::new().with_topic("t", 1);
    broker.produce_n("t", 0, 3);
    let said = open_in_another_process(&broker.path());
    assert!(said.contains("already open"), "{said}");
    broker.close().unwrap();
    let said = open_in_another_process(&broker.path());
    assert!(said.contains("topics: [\"t\"]"), "{said}");
    broker.reopen();
    assert_eq!(broker.consume_all(&tp("t", 0)).len(), 3);
}

#[test]
fn a_file_of_another_kind_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other");
    let contents: [(&str, Vec<u8>); 6] = [
        ("text", b"Dear diary, this is not a log.".to_vec()),
        ("one byte", vec![0]),
        ("zeros", vec![0; 1 << 16]),
        ("ones", vec![0xff; 1 << 16]),
        ("a long text", b"brooklet ".repeat(10_000)),
        ("SQLite", [b"SQLite format 3\0".to_vec(), vec![1; 8_000]].concat()),
    ];
    for (what, bytes) in contents {
        fs::write(&path, &bytes).unwrap();
        for builder in [Broker::builder(), Broker::builder().open_existing()] {
            let error = builder.open(&path).unwrap_err();
            assert!(matches!(error, Error::NotABrooklet { .. }), "{what}: {error:?}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "{what}");
        }
        assert!(matches!(Broker::builder().create_new().open(&path), Err(Error::AlreadyExists { .. })), "{what}");
    }
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["other"], "nothing is left beside it");
}

/// An empty file holds nothing that could be lost, and yet it is not ours.
#[test]
fn an_empty_file_is_refused_or_taken_but_never_half_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("empty");
    fs::write(&path, b"").unwrap();
    match Broker::open(&path) {
        Ok(broker) => assert!(broker.check().unwrap().is_healthy()),
        Err(error) => {
            assert!(matches!(error, Error::NotABrooklet { .. }), "{error:?}");
            assert_eq!(fs::read(&path).unwrap(), b"");
        }
    }
}

#[test]
fn a_store_cut_short_is_an_error() {
    let mut broker = TestBroker::new().with_topic("t", 1);
    broker.produce_n("t", 0, 100);
    broker.close().unwrap();
    let bytes = fs::read(broker.path()).unwrap();
    let copy = broker.directory().join("copy");
    for length in [0, 1, 9, 64, 320, 4_095, 4_096, 8_192, bytes.len() / 2, bytes.len() - 4_096, bytes.len() - 1] {
        fs::write(&copy, &bytes[..length]).unwrap();
        let path = copy.clone();
        let outcome = finishes("opening a cut file", move || {
            let broker = Broker::open(path)?;
            let report = broker.check()?;
            if report.is_healthy() { Ok(broker.topics()?.len()) } else { Err(Error::Closed) }
        });
        // A tail of the file that holds no page in use may be missing; then everything is there.
        assert!(outcome.is_err() || outcome.as_ref().is_ok_and(|&topics| topics == 1) || length == 0, "{length}");
        fs::remove_file(&copy).unwrap();
        let _ = fs::remove_file(broker.directory().join("copy-journal"));
    }
    broker.reopen();
}

#[test]
fn directories_in_the_way_and_missing_ones_are_io_errors_that_name_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"x").unwrap();
    let missing = directory.path().join("missing").join("app.brooklet");
    let below_a_file = file.join("app.brooklet");
    for path in [directory.path(), &missing, &below_a_file] {
        let error = Broker::open(path).unwrap_err();
        assert!(matches!(error, Error::Io { .. } | Error::NotABrooklet { .. }), "{error:?}");
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    }
    let journal = directory.path().join("app.brooklet-journal");
    fs::create_dir(&journal).unwrap();
    let error = Broker::open(directory.path().join("app.brooklet")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("app.brooklet-journal"), "{error}");
    assert!(!missing.exists() && !directory.path().join("app.brooklet").exists());
}

/// The superuser may write everywhere, so that this shows something for other users only; the test above is for all.
#[cfg(unix)]
#[test]
fn a_folder_without_write_permission_is_an_error_or_the_superusers() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("read-only");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    let may_write = fs::write(folder.join("probe"), b"x").is_ok();
    let opened = Broker::open(folder.join("app.brooklet"));
    match opened {
        Ok(_) => assert!(may_write),
        Err(error) => assert!(!may_write && matches!(error, Error::Io { .. }), "{error}"),
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn create_new_and_open_existing_mean_what_they_say() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.brooklet");
    let missing = Broker::builder().open_existing().open(&path).unwrap_err();
    assert!(matches!(&missing, Error::NotFound { path: named } if *named == path), "{missing}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was created");
    let broker = Broker::builder().create_new().open(&path).unwrap();
    broker.create_topic(NewTopic::new("t", 1)).unwrap();
    broker.producer().send(ProducerRecord::to("t")).unwrap().wait().unwrap();
    let exists = Broker::builder().create_new().open(&path).unwrap_err();
    assert!(matches!(&exists, Error::AlreadyExists { path: named } if *named == path), "{exists}");
    broker.close().unwrap();
    drop(broker);
    assert!(matches!(Broker::builder().create_new().open(&path), Err(Error::AlreadyExists { .. })));
    let broker = Broker::builder().open_existing().open(&path).unwrap();
    assert_eq!(broker.topics().unwrap(), ["t"]);
}

#[test]
fn a_journal_without_its_store_is_not_taken_for_an_empty_log() {
    let broker = TestBroker::new().with_topic("t", 1);
    broker.produce_n("t", 0, 3);
    let (store, journal) = (broker.path(), broker.directory().join("test.brooklet-journal"));
    let elsewhere = tempfile::tempdir().unwrap();
    let copied = elsewhere.path().join("app.brooklet");
    let copied_journal = elsewhere.path().join("app.brooklet-journal");
    fs::copy(&journal, &copied_journal).unwrap();
    assert!(matches!(Broker::open(&copied), Err(Error::StoreMissing { .. })));
    assert!(!copied.exists());
    fs::copy(&store, &copied).unwrap();
    fs::remove_file(&copied_journal).unwrap();
    assert!(matches!(Broker::open(&copied), Err(Error::JournalMismatch { .. })), "an unclean store needs its journal");
    let another = TestBroker::new().with_topic("t", 1);
    another.produce_n("t", 0, 3);
    fs::copy(another.directory().join("test.brooklet-journal"), &copied_journal).unwrap();
    assert!(matches!(Broker::open(&copied), Err(Error::JournalMismatch { .. })), "and not another store's");
    fs::copy(&journal, &copied_journal).unwrap();
    let recovered = Broker::open(&copied).unwrap();
    assert_eq!(crate::support::bounds(&recovered, "t", 0).1, 3);
    assert!(recovered.check().unwrap().is_healthy());
}
