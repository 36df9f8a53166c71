//! The command-line tool as a stranger meets it. Goal: what the help says is so, in output, exit codes and files.
//!
//! The real binary runs in a directory of its own. Where a test has to know how far a process is, it reads what that wrote,
//! or has written more than fits between the two.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// More than a pipe and the buffers at its ends hold.
#[cfg(unix)]
const MUCH: usize = 1 << 20;

/// The binary, and where it runs.
struct Tool {
    directory: TempDir,
}

impl Tool {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// With a topic `orders`.
    fn with_orders(partitions: u32) -> Self {
        let tool = Tool::new();
        tool.succeed(&["topics", "create", "orders", "-p", &partitions.to_string()]);
        tool
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_brooklet"));
        command.current_dir(&self.directory).env("BROOKLET_FILE", "app.brooklet").env("TMPDIR", self.directory.path());
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs it with this on its standard input.
    fn feed(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        // A process that fails early does not read it all.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// Its output, where it must succeed.
    fn succeed(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn produce(&self, args: &[&str], input: &[u8]) -> String {
        let output = self.feed(&[&["produce", "orders"], args].concat(), input);
        assert!(output.status.success(), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    }

    fn consume(&self, args: &[&str]) -> String {
        self.succeed(&[&["consume", "orders"], args].concat())
    }

    /// What it complains about, where it must fail with this exit code.
    fn fail(&self, code: i32, args: &[&str]) -> String {
        complaint(code, &self.run(args))
    }

    /// A process that has read everything of `orders` and waits for more.
    #[cfg(unix)]
    fn follower(&self, first_line: &str) -> Child {
        let mut child = self.command(&["consume", "orders", "--follow"]).spawn().unwrap();
        assert_eq!(line_of(&mut child), first_line);
        child
    }

    fn has(&self, file: &str) -> bool {
        self.directory.path().join(file).exists()
    }
}

/// The one line that a failed run leaves.
fn complaint(code: i32, output: &Output) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(said.starts_with("brooklet: ") && said.ends_with('\n') && said.lines().count() == 1, "{said:?}");
    said
}

/// The next line of a running process.
fn line_of(child: &mut Child) -> String {
    let output = child.stdout.as_mut().unwrap();
    // Byte by byte, so that nothing more is taken.
    let (mut line, mut byte) = (Vec::new(), [0]);
    while output.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        line.extend(byte);
    }
    String::from_utf8(line).unwrap()
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

fn numbers(count: usize) -> Vec<u8> {
    (0..count).flat_map(|i| format!("{i}\n").into_bytes()).collect()
}

#[test]
fn topics_are_created_listed_described_changed_and_deleted() {
    let tool = Tool::new();
    let create = ["topics", "create", "orders", "-p", "3", "--config", "max.message.bytes=2000"];
    assert_eq!(tool.succeed(&create), "Created topic orders.\n");
    assert!(tool.fail(1, &create).contains("exists already"));
    assert_eq!(tool.succeed(&[&create[..], &["--if-not-exists"]].concat()), "Topic orders exists already.\n");
    tool.succeed(&["topics", "create", "audit"]);
    assert_eq!(tool.succeed(&["topics", "list"]), "audit\norders\n");
    assert_eq!(tool.succeed(&["topics", "list", "--json"]), "[\"audit\",\"orders\"]\n");

    tool.produce(&["--partition", "2"], b"a\nb\n");
    let described = tool.succeed(&["topics", "describe", "orders"]);
    let lines: Vec<_> = described.lines().collect();
    assert!(lines[0].starts_with("Topic: orders\tTopicId: "), "{described}");
    assert!(
        lines[0].ends_with("\tPartitionCount: 3\tReplicationFactor: 1\tConfigs: max.message.bytes=2000"),
        "{described}"
    );
    assert_eq!(
        lines[1],
        "\tTopic: orders\tPartition: 0\tLeader: 0\tReplicas: 0\tIsr: 0\tLogStart: 0\tLogEnd: 0\tBytes: 0\tSegments: 0"
    );
    let partition = "\tTopic: orders\tPartition: 2\tLeader: 0\tReplicas: 0\tIsr: 0\tLogStart: 0\tLogEnd: 2\tBytes: ";
    assert!(lines[3].starts_with(partition) && lines[3].ends_with("\tSegments: 1"), "{described}");
    assert_eq!((lines.len(), tool.succeed(&["topics", "describe"]).lines().count()), (4, 6));

    let alter = ["topics", "alter", "orders", "--partitions", "4", "--delete-config", "max.message.bytes"];
    tool.succeed(&[&alter[..], &["--config", "message.timestamp.type=LogAppendTime"]].concat());
    let described: Value = serde_json::from_str(&tool.succeed(&["topics", "describe", "orders", "--json"])).unwrap();
    let partition = &described[0]["partitions"][2];
    assert_eq!((&partition["partition"], &partition["log_start"]), (&json!(2), &json!(0)));
    assert_eq!((&partition["log_end"], &partition["segments"]), (&json!(2), &json!(1)));
    assert!(partition["bytes"].as_u64().unwrap() > 80, "{partition}");
    assert_eq!(described[0]["partitions"].as_array().unwrap().len(), 4);
    assert_eq!(
        described[0]["config"]["message.timestamp.type"],
        json!({"value": "LogAppendTime", "is_default": false})
    );
    assert_eq!(described[0]["config"]["max.message.bytes"]["is_default"], json!(true));

    assert_eq!(tool.succeed(&["topics", "delete", "audit"]), "Deleted topic audit.\n");
    assert!(tool.fail(1, &["topics", "delete", "audit"]).contains("unknown topic `audit`"));
    tool.succeed(&["topics", "delete", "audit", "--if-exists"]);
    assert_eq!(tool.succeed(&["topics", "list"]), "orders\n");
}

/// Old records go, and then their room.
#[test]
fn what_is_too_old_is_cleaned_and_its_room_given_back() {
    let tool = Tool::with_orders(1);
    tool.produce(&["--timestamp", "1000"], &numbers(200_000));
    assert_eq!(
        tool.succeed(&["clean"]).split(" in ").next(),
        Some("Deleted 0 segments, compacted 0 partitions; freed 0 B of 0 records")
    );
    tool.succeed(&["topics", "alter", "orders", "--config", "retention.ms=604800000"]);
    let cleaned: Value = serde_json::from_str(&tool.succeed(&["clean", "--json"])).unwrap();
    assert_eq!((&cleaned["segments"], &cleaned["records"]), (&json!(1), &json!(200_000)));
    let vacuumed: Value = serde_json::from_str(&tool.succeed(&["vacuum", "--json"])).unwrap();
    let [before, after] = ["bytes_before", "bytes_after"].map(|key| vacuumed[key].as_u64().unwrap());
    assert!(after <= before && after < 256 << 10, "{vacuumed}");
    assert!(tool.succeed(&["vacuum"]).starts_with("The file has "));
    assert!(tool.consume(&[]).is_empty());
    tool.produce(&[], b"new\n");
    assert_eq!(tool.consume(&["--print", "offset"]), "Offset:200000\tnew\n");
}

#[test]
fn a_compacted_topic_keeps_the_last_record_of_each_key() {
    let tool = Tool::new();
    tool.succeed(&["topics", "create", "orders", "--config", "cleanup.policy=compact", "--config", "segment.bytes=1"]);
    let lines = b"apples:3\npears:5\napples:2\nplums:9\n";
    tool.produce(&["--key-separator", ":"], lines);
    let cleaned: Value = serde_json::from_str(&tool.succeed(&["clean", "--json"])).unwrap();
    assert_eq!((&cleaned["compacted"], &cleaned["records"]), (&json!(1), &json!(1)));
    assert!(tool.succeed(&["clean"]).contains("compacted"));
    let described = tool.succeed(&["topics", "describe", "orders"]);
    assert!(described.contains("\tCompacted: 3\tDirtyRatio: 0.00\tKeys: 2\n"), "{described}");
    let described: Value = serde_json::from_str(&tool.succeed(&["topics", "describe", "orders", "--json"])).unwrap();
    let compaction = described.pointer("/0/partitions/0/compaction").unwrap();
    assert_eq!((&compaction["compacted"], &compaction["keys"]), (&json!(3), &json!(2)), "{described}");
    let bad = tool.fail(1, &["topics", "alter", "orders", "--config", "cleanup.policy=compress"]);
    assert!(bad.contains("`compact`"), "{bad}");
}

/// A wrong configuration leaves the partitions alone as well.
#[test]
fn an_alteration_that_is_wrong_changes_nothing() {
    let tool = Tool::with_orders(1);
    let before = tool.succeed(&["topics", "describe"]);
    tool.fail(1, &["topics", "alter", "orders", "--partitions", "2", "--config", "no.such=1"]);
    tool.fail(1, &["topics", "alter", "orders", "--partitions", "1"]);
    tool.fail(2, &["topics", "alter", "orders"]);
    assert_eq!(tool.succeed(&["topics", "describe"]), before);
}

#[test]
fn lines_keep_their_bytes_also_the_last_one_without_a_newline() {
    let tool = Tool::with_orders(1);
    let input = b"plain\n\n\xff\xfe\0 \x1b[2J\r\ncaf\xc3\xa9";
    assert!(tool.produce(&[], input).starts_with("4 records, "));
    assert_eq!(tool.run(&["consume", "orders"]).stdout, [&input[..], b"\n"].concat());
    assert_eq!(tool.consume(&["--escape", "--from", "2"]), "\\xff\\xfe\\x00 \\x1b[2J\\r\ncaf\u{e9}\n");
}

#[test]
fn keys_headers_and_times_are_sent_and_printed_in_kafkas_order() {
    let tool = Tool::with_orders(1);
    let args = ["--key-separator", "\\t", "--header", "via=a=b", "-H", "via=", "--timestamp", "1700000000000"];
    tool.produce(&args, b"c-42\t3 apples\tred\n\t\n");
    assert_eq!(
        tool.consume(&["--print", "key,offset,headers,partition,timestamp", "--separator", "|"]),
        "CreateTime:1700000000000|Partition:0|Offset:0|via:a=b,via:|c-42|3 apples\tred\n\
         CreateTime:1700000000000|Partition:0|Offset:1|via:a=b,via:||\n"
    );
    tool.produce(&["--key", "k", "--null-marker", "NULL"], b"NULL\n");
    assert_eq!(tool.consume(&["--from", "-1", "--print", "key,headers"]), "NO_HEADERS\tk\tnull\n");
    assert_eq!(
        tool.consume(&["--format", "%t/%p/%o %T %k=%v [%h] %K %V 100%%\\n", "--from", "0", "--max", "1"]),
        "orders/0/0 1700000000000 c-42=3 apples\tred [via=a=b,via=] 4 12 100%\n"
    );
    assert_eq!(tool.consume(&["--format", "%k:%v:%V;", "--from", "-1"]), "k::-1;");
}

#[test]
fn json_lines_say_everything() {
    let tool = Tool::with_orders(1);
    tool.produce(&["-k", ":", "-H", "trace=7\"f", "--timestamp", "5"], b"c-42:\x1b \"quoted\"\nc-43:\xff\n");
    tool.produce(&["--timestamp", "6", "--null-marker", "-"], b"-\n");
    let lines: Vec<Value> = tool.consume(&["--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines[0],
        json!({
            "topic": "orders", "partition": 0, "offset": 0, "timestamp": 5, "timestamp_type": "CreateTime",
            "key": "c-42", "value": "\u{1b} \"quoted\"", "headers": [{"key": "trace", "value": "7\"f"}],
        })
    );
    assert_eq!(lines[1]["value"], json!({"base64": "/w=="}));
    assert_eq!((&lines[2]["key"], &lines[2]["value"], &lines[2]["headers"]), (&json!(null), &json!(null), &json!([])));
    assert_eq!(lines.len(), 3);
    assert!(!tool.consume(&["--json"]).contains('\u{1b}'));
}

#[test]
fn reading_starts_where_it_is_told() {
    let tool = Tool::with_orders(2);
    for (partition, time, value) in [("0", "1000", "a"), ("0", "2000", "b"), ("0", "3000", "c"), ("1", "2500", "x")] {
        tool.produce(&["--partition", partition, "--timestamp", time], value.as_bytes());
    }
    for (args, expected) in [
        (&["--from", "beginning"][..], "abcx"),
        (&["--from", "end"], ""),
        (&["--from", "-1"], "cx"),
        (&["--from", "-99"], "abcx"),
        (&["--from", "1"], "bc"),
        (&["--from", "1", "--partition", "0"], "bc"),
        (&["--from", "3", "--partition", "0"], ""),
        (&["--from", "@2000"], "bcx"),
        (&["--from", "@1970-01-01T00:00:02.5Z"], "cx"),
        (&["--from", "@1970-01-01T01:00:03+01:00"], "c"),
        (&["--from", "@3001"], ""),
        (&["--partition", "1"], "x"),
        (&["--partition", "1", "-p", "0", "-p", "1"], "abcx"),
        (&["--max", "2"], "ab"),
    ] {
        assert_eq!(tool.consume(args).replace('\n', ""), expected, "{args:?}");
    }
    let complaint = tool.fail(1, &["consume", "orders", "--partition", "0", "--from", "4"]);
    assert!(complaint.contains("orders-0 has no offset 4, its log goes from 0 to 3"), "{complaint}");
    assert!(tool.fail(1, &["consume", "orders", "--partition", "2"]).contains("no partition 2"));
}

#[test]
fn a_group_goes_on_where_it_was() {
    let tool = Tool::with_orders(2);
    tool.produce(&["--partition", "0"], b"a\nb\nc\n");
    tool.produce(&["--partition", "1"], b"x\ny\n");
    let billing = |args: &[&str]| tool.consume(&[&["--group", "billing"], args].concat()).replace('\n', "");
    assert_eq!(billing(&["--max", "2"]), "ab");
    assert_eq!(billing(&["--max", "2"]), "cx");
    // The reset rule is for partitions that nothing is committed for.
    assert_eq!(billing(&["--from", "end"]), "y");
    assert_eq!((billing(&[]), billing(&["--from", "beginning"])), (String::new(), String::new()));
    tool.produce(&["--partition", "0"], b"d");
    tool.produce(&["--partition", "1"], b"z");
    assert_eq!(billing(&["--partition", "1"]), "z");
    assert_eq!(billing(&["--max", "100"]), "d");

    // Another group, and a reader without one, are not concerned. Who starts at the end goes on from there.
    assert_eq!(tool.consume(&["--max", "1"]), "a\n");
    assert_eq!(tool.consume(&["-g", "audit", "--from", "end"]), "");
    tool.produce(&["--partition", "0"], b"e");
    assert_eq!(tool.consume(&["-g", "audit"]), "e\n");

    assert!(tool.fail(1, &["consume", "nowhere", "-g", "audit"]).contains("unknown topic `nowhere`"));
    assert!(tool.fail(1, &["consume", "orders", "-g", "audit", "-p", "2"]).contains("no partition 2"));
    assert!(tool.fail(1, &["consume", "orders", "-g", ""]).contains("invalid group id"));
}

#[test]
fn groups_are_listed_described_reset_and_deleted() {
    let tool = Tool::with_orders(2);
    tool.produce(&["--partition", "0", "--timestamp", "1000"], b"a\nb\nc\n");
    tool.produce(&["--partition", "1", "--timestamp", "5000"], b"x\n");
    assert_eq!(tool.succeed(&["groups", "list"]), "GROUP  STATE\n");

    let reset = |args: &[&str]| {
        let args = [&["groups", "reset-offsets", "billing"], args].concat();
        let moves: Value = serde_json::from_str(&tool.succeed(&[&args[..], &["--json"]].concat())).unwrap();
        let offsets = moves.as_array().unwrap().iter().map(|moved| {
            assert_eq!((&moved["group"], &moved["topic"]), (&json!("billing"), &json!("orders")));
            [&moved["partition"], &moved["old_offset"], &moved["new_offset"]].map(Value::as_u64)
        });
        offsets.collect::<Vec<_>>()
    };
    let of = |partition, before, after| [Some(partition), before, Some(after)];
    assert_eq!(reset(&["--to-offset", "2", "--topic", "orders:0", "--execute"]), [of(0, None, 2)]);
    assert_eq!(
        tool.succeed(&["groups", "describe", "billing"]),
        "Group: billing\tState: Empty\tEpoch: 0\tAssignor: uniform\tMembers: 0\n\
         GROUP    TOPIC   PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG  CONSUMER-ID  CLIENT-ID\n\
         billing  orders  0          2               3               1    -            -\n"
    );

    for (args, expected) in [
        (&["--to-earliest", "--all-topics"][..], vec![of(0, Some(2), 0), of(1, None, 0)]),
        (&["--to-latest", "--topic", "orders"], vec![of(0, Some(2), 3), of(1, None, 1)]),
        (&["--to-current", "--topic", "orders:1,0", "--topic", "orders:0"], vec![of(0, Some(2), 2), of(1, None, 1)]),
        (&["--to-offset", "99", "--topic", "orders:0"], vec![of(0, Some(2), 3)]),
        (&["--shift-by", "-1", "--topic", "orders:0"], vec![of(0, Some(2), 1)]),
        (&["--shift-by", "-9", "--topic", "orders:0"], vec![of(0, Some(2), 0)]),
        (&["--shift-by", "1", "--topic", "orders:0"], vec![of(0, Some(2), 3)]),
        (&["--to-datetime", "1970-01-01T00:00:01Z", "--all-topics"], vec![of(0, Some(2), 0), of(1, None, 0)]),
        (&["--to-datetime", "1001", "--all-topics"], vec![of(0, Some(2), 3), of(1, None, 0)]),
        (&["--by-duration", "P1D", "--all-topics"], vec![of(0, Some(2), 3), of(1, None, 1)]),
    ] {
        assert_eq!(reset(args), expected, "{args:?}");
    }
    assert_eq!(reset(&["--to-earliest", "--all-topics", "--execute"]), [of(0, Some(2), 0), of(1, None, 0)]);
    assert_eq!(tool.consume(&["-g", "billing"]), "a\nb\nc\nx\n");

    assert_eq!(tool.succeed(&["groups", "list"]), "GROUP    STATE\nbilling  Empty\n");
    assert_eq!(tool.succeed(&["groups", "list", "--json"]), "[{\"name\":\"billing\",\"state\":\"Empty\"}]\n");
    assert_eq!(tool.succeed(&["groups", "list", "--state", "stable,assigning"]), "GROUP  STATE\n");
    assert!(tool.succeed(&["groups", "list", "--state", "EMPTY"]).contains("billing"));

    assert_eq!(
        tool.succeed(&["groups", "delete-offsets", "billing", "--topic", "orders:1"]),
        "GROUP    TOPIC   PARTITION  OLD-OFFSET  NEW-OFFSET\n\
         billing  orders  1          1           -\n"
    );
    let described: Value = serde_json::from_str(&tool.succeed(&["groups", "describe", "--json"])).unwrap();
    assert_eq!(
        described[0]["partitions"],
        json!([{
            "topic": "orders", "partition": 0, "committed": 3, "metadata": "", "log_start": 0, "log_end": 3, "lag": 0,
            "member_id": null,
        }])
    );
    assert_eq!((&described[0]["name"], &described[0]["state"]), (&json!("billing"), &json!("Empty")));
    assert_eq!((&described[0]["members"], described.as_array().unwrap().len()), (&json!([]), 1));

    assert_eq!(tool.succeed(&["groups", "delete", "billing"]), "Deleted group billing.\n");
    assert_eq!(tool.succeed(&["groups", "list", "--json"]), "[]\n");
}

#[test]
fn a_dry_run_says_so_and_changes_nothing() {
    let tool = Tool::with_orders(1);
    tool.produce(&[], b"a\nb\n");
    tool.consume(&["-g", "billing", "-n", "1"]);
    let before = tool.succeed(&["groups", "describe"]);
    let moves = "GROUP    TOPIC   PARTITION  OLD-OFFSET  NEW-OFFSET\nbilling  orders  0          1           0\n";
    let args = ["groups", "reset-offsets", "billing", "--to-earliest", "--all-topics"];
    let output = tool.run(&args);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), moves.as_bytes()));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("dry run: nothing was changed"));
    assert_eq!(tool.succeed(&["groups", "describe"]), before);

    // Nor does it make a group.
    tool.succeed(&["groups", "reset-offsets", "new", "--to-latest", "--topic", "orders"]);
    assert_eq!(tool.succeed(&["groups", "describe"]), before);

    let output = tool.run(&[&args[..], &["--execute"]].concat());
    assert_eq!((&output.stdout[..], output.stderr.len()), (moves.as_bytes(), 0));
    assert_eq!(tool.consume(&["-g", "billing"]), "a\nb\n");
}

#[test]
fn what_can_not_be_done_to_a_group_changes_nothing() {
    let tool = Tool::with_orders(2);
    tool.produce(&["--partition", "0"], b"a\n");
    tool.consume(&["-g", "billing", "-p", "0"]);
    let before = tool.succeed(&["groups", "describe"]);
    for (args, part) in [
        (&["describe", "nobody"][..], "unknown group `nobody`"),
        (&["describe", ""], "invalid group id"),
        (&["delete-offsets", "nobody", "--topic", "orders"], "unknown group `nobody`"),
        (&["delete-offsets", "billing", "--topic", "orders", "--topic", "orders:2"], "no partition 2"),
        (&["delete-offsets", "billing", "--topic", "orders", "--topic", "nowhere"], "unknown topic `nowhere`"),
        (&["reset-offsets", "nobody", "--to-earliest", "--all-topics", "--execute"], "unknown group `nobody`"),
        (
            &["reset-offsets", "billing", "--to-earliest", "--topic", "nowhere:0", "--execute"],
            "unknown topic `nowhere`",
        ),
        (&["reset-offsets", "billing", "--to-earliest", "--topic", "orders:0,2", "--execute"], "no partition 2"),
        (&["reset-offsets", "billing", "--shift-by", "-1", "--all-topics", "--execute"], "orders-1"),
    ] {
        let complaint = tool.fail(1, &[&["groups"], args].concat());
        assert!(complaint.contains(part), "{args:?}: {complaint}");
    }
    assert_eq!(tool.succeed(&["groups", "describe"]), before);
}

#[test]
fn a_group_that_is_not_deleted_does_not_keep_the_others() {
    let tool = Tool::with_orders(1);
    for group in ["audit", "billing", "other"] {
        tool.consume(&["-g", group]);
    }
    let output = tool.run(&["groups", "delete", "audit", "nobody", "billing"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "Deleted group audit.\nDeleted group billing.\n");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("unknown group `nobody`") && said.lines().count() == 1, "{said}");
    assert_eq!(tool.succeed(&["groups", "list"]), "GROUP  STATE\nother  Empty\n");
}

/// Its name may be any text: a list of groups stays a list of lines that is fit for a terminal.
#[test]
fn the_name_of_a_group_is_shown_without_its_control_characters() {
    let tool = Tool::with_orders(1);
    let name = "a\n\u{1b}[2J\u{9b}\\";
    tool.consume(&["-g", name]);
    assert_eq!(tool.succeed(&["groups", "list"]), "GROUP                 STATE\na\\n\\x1b[2J\\xc2\\x9b\\\\  Empty\n");
    let listed = tool.succeed(&["groups", "list", "--json"]);
    assert!(!listed.trim_end().chars().any(char::is_control), "{listed:?}");
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap()[0]["name"], json!(name));
    for args in [
        &["groups", "describe", name][..],
        &["groups", "reset-offsets", name, "--to-latest", "--all-topics"],
        &["groups", "delete-offsets", name, "--topic", "orders"],
        &["groups", "delete", name],
    ] {
        let shown = tool.run(args).stdout;
        assert!(shown.is_ascii() && !shown.contains(&0x1b), "{shown:?}");
    }
    assert!(!tool.fail(1, &["groups", "describe", name]).contains('\u{1b}'));
}

#[test]
fn a_line_without_the_separator_is_named_and_those_before_it_are_there() {
    let tool = Tool::with_orders(1);
    let input = b"a:1\nb:2\nsecret\nd:4\n";
    let complaint = complaint(1, &tool.feed(&["produce", "orders", "-k", ":"], input));
    assert!(complaint.contains("line 3 was not produced, the 2 before it were"), "{complaint}");
    assert!(!complaint.contains("secret"), "{complaint}");
    assert_eq!(tool.consume(&["--print", "key"]), "a\t1\nb\t2\n");
    tool.produce(&["-k", ":", "--ignore-missing-key"], b"secret\n");
    assert_eq!(tool.consume(&["--print", "key", "--from", "-1"]), "null\tsecret\n");
}

#[test]
fn a_line_that_is_too_large_is_named_and_those_before_it_are_there() {
    let tool = Tool::new();
    tool.succeed(&["topics", "create", "orders", "--config", "max.message.bytes=100"]);
    let input = [&b"small\n"[..], &[b'x'; 100], b"\nsmall\n"].concat();
    let complaint = complaint(1, &tool.feed(&["produce", "orders"], &input));
    assert!(complaint.contains("line 2 was not produced, the one before it was"), "{complaint}");
    assert_eq!(tool.consume(&[]), "small\n");
}

#[test]
fn many_lines_keep_their_order_in_both_durabilities() {
    let tool = Tool::with_orders(1);
    let lines = numbers(30_000);
    for durability in ["sync", "buffered"] {
        assert!(tool.produce(&["--durability", durability], &lines).starts_with("30,000 records, "));
    }
    let read = tool.run(&["consume", "orders"]).stdout;
    assert!(read == [&lines[..], &lines].concat(), "{} bytes", read.len());
    assert!(!tool.has("app.brooklet-journal"));
}

/// A misspelt name makes no file.
#[test]
fn reading_commands_create_no_file() {
    let tool = Tool::new();
    for args in [
        &["topics", "list"][..],
        &["topics", "describe"],
        &["topics", "alter", "orders", "--partitions", "2"],
        &["topics", "delete", "orders", "--if-exists"],
        &["groups", "list"],
        &["groups", "describe", "billing"],
        &["groups", "reset-offsets", "billing", "--to-latest", "--topic", "orders", "--execute"],
        &["groups", "delete", "billing"],
        &["consume", "orders"],
        &["consume", "orders", "--group", "billing"],
        &["produce", "orders"],
        &["check"],
    ] {
        let complaint = tool.fail(1, args);
        assert!(complaint.contains("app.brooklet does not exist: check --file"), "{complaint}");
    }
    // Nor does a topic that can't be.
    tool.fail(1, &["topics", "create", "a b"]);
    tool.fail(1, &["topics", "create", "a", "--config", "no.such=1"]);
    tool.fail(2, &["topics", "create", "a", "-p", "0"]);
    assert_eq!(fs::read_dir(&tool.directory).unwrap().count(), 0);
}

#[test]
fn produce_creates_the_topic_when_told() {
    let tool = Tool::new();
    tool.produce(&["--create-topic=3"], b"a\n");
    tool.produce(&["--create-topic"], b"b\n");
    let described = tool.succeed(&["topics", "describe", "orders"]);
    assert!(described.contains("PartitionCount: 3"), "{described}");
    assert!(tool.fail(1, &["produce", "audit"]).contains("unknown topic `audit`"));
}

#[test]
fn wrong_usage_is_said_in_one_line_with_exit_code_2() {
    let tool = Tool::with_orders(1);
    for (args, part) in [
        (&["consume"][..], "<TOPIC>"),
        (&["consume", "orders", "--frm", "1"], "tip: a similar argument exists: '--from'"),
        (&["consume", "orders", "--from", "yesterday"], "`beginning`, `end`"),
        (&["consume", "orders", "--format", "%q"], "bad --format"),
        (&["consume", "orders", "--json", "--print", "key"], "cannot be used with"),
        (&["consume", "orders", "--max", "0"], "--max"),
        (&["consume", "orders", "--group", "billing", "--from", "-1"], "reset-offsets"),
        (&["consume", "orders", "--group", "billing", "--from", "@0"], "reset-offsets"),
        (&["groups"], "requires a subcommand"),
        (&["groups", "list", "--state", "Dead"], "Empty, Assigning, Reconciling or Stable"),
        (&["groups", "delete"], "<GROUP>"),
        (&["groups", "delete-offsets", "billing"], "--topic"),
        (&["groups", "delete-offsets", "billing", "--topic", "orders:x"], "`orders:0,2`"),
        (&["groups", "reset-offsets", "billing", "--to-latest"], "--all-topics"),
        (&["groups", "reset-offsets", "billing", "--topic", "orders"], "--to-earliest"),
        (&["groups", "reset-offsets", "billing", "--all-topics", "--topic", "orders", "--to-latest"], "cannot be used"),
        (&["groups", "reset-offsets", "billing", "--all-topics", "--to-latest", "--shift-by", "-1"], "cannot be used"),
        (&["groups", "reset-offsets", "billing", "--all-topics", "--to-offset", "-1"], "--to-offset"),
        (&["groups", "reset-offsets", "billing", "--all-topics", "--by-duration", "1H"], "PT1H"),
        (&["groups", "reset-offsets", "billing", "--all-topics", "--to-datetime", "noon"], "2026-01-31T12:00:00Z"),
        (&["produce", "orders", "--key-separator", ""], "at least one character"),
        (&["produce", "orders", "--header", "novalue"], "`key=value` is expected"),
        (&["produce", "orders", "--timestamp", "soon"], "2026-01-31T12:00:00Z"),
        (&["--file", "", "check"], "--file"),
    ] {
        let complaint = tool.fail(2, args);
        assert!(complaint.contains(part), "{args:?}: {complaint}");
    }
    let no_file = tool.command(&["check"]).env_remove("BROOKLET_FILE").output().unwrap();
    assert!(complaint(2, &no_file).contains("give --file PATH, or set BROOKLET_FILE"));
    let no_command = tool.run(&[]);
    assert_eq!((no_command.status.code(), no_command.stdout.len()), (Some(2), 0));
    assert!(tool.succeed(&["consume", "--help"]).contains("Examples:"));
}

#[test]
fn an_error_stays_in_one_line_whatever_the_name_has_in_it() {
    let tool = Tool::new();
    for args in [["topics", "create", "a\n\u{1b}[2J"], ["topics", "-f", "no\n\u{1b}[2J"]] {
        let output = tool.run(&[&args[..], if args[1] == "-f" { &["list"] } else { &[] }].concat());
        assert!(!complaint(1, &output).contains('\u{1b}'));
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let tool = Tool::with_orders(1);
    tool.produce(&[], &[b'x'; 99].map(|x| [x; 10_000].to_vec()).join(&b'\n'));
    let mut child = tool.command(&["consume", "orders", "--format", "%v%v%v\\n"]).spawn().unwrap();
    line_of(&mut child);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(!tool.has("app.brooklet-journal"));
}

/// One poll gives far more than a pipe holds, so the first one is never written in whole.
#[test]
fn what_a_reader_did_not_take_is_not_committed() {
    let tool = Tool::with_orders(1);
    tool.produce(&[], &[b'x'; 9].map(|x| [x; 100_000].to_vec()).join(&b'\n'));
    let mut child = tool.command(&["consume", "orders", "-g", "billing"]).spawn().unwrap();
    line_of(&mut child);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(tool.consume(&["-g", "billing"]).lines().count(), 9);
    assert_eq!(tool.consume(&["-g", "billing"]), "");
}

/// It is stopped while it waits for records, or just before.
#[cfg(unix)]
#[test]
fn a_member_stopped_by_a_signal_has_committed_what_it_wrote() {
    let tool = Tool::with_orders(1);
    for (name, line) in [("-TERM", "first"), ("-INT", "second")] {
        tool.produce(&[], line.as_bytes());
        let mut child = tool.command(&["consume", "orders", "-g", "billing", "--follow"]).spawn().unwrap();
        assert_eq!(line_of(&mut child), line);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
        assert!(!tool.has("app.brooklet-journal"));
    }
    assert_eq!(tool.consume(&["-g", "billing"]), "");
}

/// It is stopped in the middle of writing, by a reader that does not read.
#[cfg(unix)]
#[test]
fn nothing_is_lost_between_a_member_stopped_by_a_signal_and_the_next() {
    let tool = Tool::with_orders(1);
    let count = MUCH / 4;
    tool.produce(&[], &numbers(count));
    let mut child = tool.command(&["consume", "orders", "-g", "billing"]).spawn().unwrap();
    assert_eq!(line_of(&mut child), "0");
    signal(&child, "-TERM");
    let mut output = child.stdout.take().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let mut first = String::new();
    output.read_to_string(&mut first).unwrap();
    let last: usize = first.lines().rev().nth(1).unwrap().parse().unwrap();
    let second = tool.consume(&["-g", "billing"]);
    let next: usize = second.lines().next().unwrap().parse().unwrap();
    assert!(next <= last + 2 && last < count - 1, "{last}, then {next}");
    assert!(second.lines().map(|line| line.parse::<usize>().unwrap()).eq(next..count));
}

#[cfg(unix)]
#[test]
fn a_file_that_another_process_has_is_refused_and_a_stopped_follower_lets_go_of_it() {
    let tool = Tool::with_orders(1);
    tool.produce(&[], b"first\n");
    for name in ["-TERM", "-INT"] {
        let follower = tool.follower("first");
        for args in [&["topics", "list"][..], &["check"], &["consume", "orders"], &["topics", "create", "audit"]] {
            assert!(tool.fail(1, args).contains("app.brooklet is open already"), "{args:?}");
        }
        assert!(tool.has("app.brooklet-journal"));
        signal(&follower, name);
        let output = follower.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert!(!tool.has("app.brooklet-journal"), "it was closed cleanly");
    }
    assert_eq!(tool.consume(&[]), "first\n");
}

/// What was sent is on the disk, and the count that is said is right.
#[cfg(unix)]
#[test]
fn a_producer_stopped_by_a_signal_says_how_far_it_came() {
    let tool = Tool::with_orders(1);
    let line = [&[b'x'; 63][..], b"\n"].concat();
    for (name, code) in [("-TERM", 143), ("-INT", 130)] {
        let before = tool.consume(&[]).lines().count();
        let mut child = tool.command(&["produce", "orders"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(&line.repeat(MUCH / line.len())).unwrap();
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        drop(input);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let count: usize = said.strip_suffix(" records\n").unwrap().parse().unwrap();
        let there = tool.consume(&[]).lines().count() - before;
        // A line that was just being sent may be there and not be counted.
        assert!(count > MUCH / line.len() / 2 && (count..=count + 1).contains(&there), "{said}, and {there} are there");
        assert!(!tool.has("app.brooklet-journal"));
    }
}

/// Also when nobody reads what it writes.
#[cfg(unix)]
#[test]
fn a_consumer_stopped_by_a_signal_closes_the_file() {
    let tool = Tool::with_orders(1);
    tool.produce(&[], &numbers(MUCH / 4));
    let mut child = tool.command(&["consume", "orders"]).spawn().unwrap();
    assert_eq!(line_of(&mut child), "0");
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(!tool.has("app.brooklet-journal"));
    assert_eq!(line_of(&mut child), "1");
}

#[test]
fn check_finds_what_was_changed_and_exits_with_1() {
    let tool = Tool::with_orders(1);
    let value = b"a value that is found in the file, ".repeat(300);
    tool.produce(&[], &value);
    assert!(tool.succeed(&["check"]).starts_with("healthy: "));
    let path = tool.directory.path().join("app.brooklet");
    let sound = fs::read(&path).unwrap();
    let places: Vec<_> = (0..sound.len() - value.len()).filter(|&i| sound[i..].starts_with(&value)).collect();
    assert!(!places.is_empty());
    let damage = |at: usize| {
        let mut bytes = sound.clone();
        places.iter().for_each(|&i| bytes[i + at] ^= 1);
        fs::write(&path, bytes).unwrap();
    };

    for at in [0, value.len() - 1] {
        damage(at);
        let output = tool.run(&["check"]);
        let (report, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(1), "{report}{said}");
        assert!(report.starts_with("DAMAGED") && report.contains("the offsets 0 to 0 can't be read"), "{report}");
        assert!(
            said.starts_with("brooklet: ")
                && said.contains("restore the file from a copy")
                && said.lines().count() == 1,
            "{said}"
        );
    }
}

#[test]
fn consume_goes_on_behind_damage_when_it_is_told_to() {
    let tool = Tool::with_orders(1);
    let lines: Vec<_> = (0..60).map(|number| format!("{number} {}", ".".repeat(3_000))).collect();
    tool.produce(&[], lines.join("\n").as_bytes());
    let path = tool.directory.path().join("app.brooklet");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(5).position(|bytes| bytes == b"25 ..").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();

    let ended = tool.run(&["consume", "orders"]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stdout.starts_with(b"0 ..") && !ended.stdout.windows(6).any(|bytes| bytes == b"\n59 .."));
    let went_on = tool.run(&["consume", "orders", "--skip-damaged", "--format", "%o\\n"]);
    let (read, said) = (String::from_utf8(went_on.stdout).unwrap(), String::from_utf8(went_on.stderr).unwrap());
    assert_eq!(went_on.status.code(), Some(1), "{said}");
    let offsets: Vec<u64> = read.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(offsets, (0..24).chain(26..60).collect::<Vec<_>>(), "{said}");
    assert!(said.contains("orders-0: the offsets 24 to 25 are left out\n"), "{said}");
    assert!(said.ends_with("brooklet: 2 offsets were left out, as what was there is damaged\n"), "{said}");
}

#[test]
fn the_demonstration_proves_itself_and_leaves_nothing_behind() {
    let tool = Tool::new();
    let story = tool.succeed(&["demo", "--events", "20000"]);
    assert!(story.contains("in the middle of its work") && story.ends_with("nothing came twice.\n"), "{story}");
    assert_eq!(fs::read_dir(&tool.directory).unwrap().count(), 0);
}

#[test]
fn the_demonstration_keeps_its_file_when_told() {
    let tool = Tool::new();
    let story = tool.succeed(&["demo", "--events", "2000", "--keep"]);
    let directory = story.lines().next().unwrap().strip_prefix("The files are in ").unwrap();
    let read = tool.succeed(&["-f", &format!("{directory}/demo.brooklet"), "consume", "events"]);
    assert_eq!(read.lines().count(), 2_000);
}

#[cfg(unix)]
#[test]
fn a_demonstration_stopped_by_a_signal_leaves_nothing_behind() {
    let tool = Tool::new();
    let mut child = tool.command(&["demo"]).spawn().unwrap();
    assert!(line_of(&mut child).starts_with("The files are in "));
    assert!(line_of(&mut child).starts_with("1. "));
    signal(&child, "-TERM");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(143), 0), "{output:?}");
    assert_eq!(fs::read_dir(&tool.directory).unwrap().count(), 0);
}
