use std::fmt::Write as _;

use holdfast_model::{BucketId, FragmentPlace, Generation, Redundancy};

use super::*;
use crate::scenario::{Scenario, disk};

fn upload(n: u8) -> UploadId {
    UploadId::from_bytes([n; 16])
}

/// A row: `upload.chunk: disk disk disk`, the fragments by index, `-` for a
/// missing one, `running` for one of a running upload.
fn row(text: &str) -> ChunkRow {
    let (name, places) = text.split_once(": ").unwrap();
    let (up, chunk) = name.split_once('.').unwrap();
    let fragments = (0..).zip(places.split(' ')).filter_map(|(index, n)| {
        Some(FragmentPlace {
            index,
            disk: disk(n.parse().ok()?),
        })
    });
    ChunkRow {
        upload: upload(up.parse().unwrap()),
        chunk: Chunk {
            index: chunk.parse().unwrap(),
            size: 100,
            stored: 100,
            redundancy: Redundancy::copies(3),
            stripe_bytes: 100,
            generation: Generation(1),
            fragments: fragments.collect(),
        },
        bucket: BucketId::from_bytes([0; 16]),
        committed: !places.contains("running"),
    }
}

/// A disk's list: `disk: upload.chunk.index ...`, `!` before a corrupt one.
fn list(text: &str) -> (DiskId, Vec<FileEntry>) {
    let (n, files) = text.split_once(':').unwrap();
    let files = files.split_whitespace().map(|file| {
        let numbers: Vec<u8> = file
            .trim_matches('!')
            .split('.')
            .map(|n| n.parse().unwrap())
            .collect();
        FileEntry {
            id: FragmentId {
                group: GroupId(1),
                upload: upload(numbers[0]),
                chunk: u32::from(numbers[1]),
                index: numbers[2],
            },
            generation: Generation(1),
            bytes: 100,
            corrupt: file.starts_with('!'),
        }
    });
    (disk(n.parse().unwrap()), files.collect())
}

fn merge(nodes: &str, rows: &[&str], lists: &[&str]) -> String {
    let scenario = Scenario::read(nodes);
    let span = Span {
        rows: rows.iter().map(|text| row(text)).collect(),
        files: lists.iter().map(|text| list(text)).collect(),
        ..Span::default()
    };
    let uses = scenario
        .answering
        .iter()
        .map(|disk| {
            (
                *disk,
                DiskUse {
                    answers: true,
                    capacity: 1,
                    ..DiskUse::default()
                },
            )
        })
        .collect();
    let mut tally = Tally::default();
    let found = merge_span(GroupId(1), &span, &scenario.layout, &uses, &mut tally);
    tally.close();
    let tally = tally.total();
    let mut out = format!(
        "{} objects, {} chunks, {} degraded, {} unavailable, {} lost\n",
        tally.objects, tally.chunks, tally.degraded, tally.unavailable, tally.lost
    );
    let kinds = [
        ("absent", &found.absent),
        ("corrupt", &found.corrupt),
        ("displaced", &found.displaced),
    ];
    for (kind, missing) in kinds {
        for m in missing {
            let (up, on) = (m.upload.as_bytes()[0], m.place.disk.as_bytes()[0]);
            writeln!(out, "{kind} {up}.{}.{} on {on}", m.chunk, m.place.index).unwrap();
        }
    }
    for (on, file) in &found.unreferenced {
        let (up, on) = (file.id.upload.as_bytes()[0], on.as_bytes()[0]);
        writeln!(
            out,
            "unreferenced {up}.{}.{} on {on}",
            file.id.chunk, file.id.index
        )
        .unwrap();
    }
    out
}

const THREE: &str = "1 a active\n2 b active\n3 c active";
const ONE_DOWN: &str = "1 a active\n2 b active\n3 c down silent";

#[test]
fn is_a_group_whole_whose_fragments_are_all_listed() {
    assert_eq!(
        merge(
            THREE,
            &["1.0: 1 2 3", "1.1: 3 1 2", "2.0: 2 3 1"],
            &[
                "1: 1.0.0 1.1.1 2.0.2",
                "2: 1.0.1 1.1.2 2.0.0",
                "3: 1.0.2 1.1.0 2.0.1"
            ],
        ),
        "2 objects, 3 chunks, 0 degraded, 0 unavailable, 0 lost\n"
    );
}

#[test]
fn is_what_the_disks_lack_found_although_no_queue_knows_of_it() {
    assert_eq!(
        merge(
            THREE,
            &["1.0: 1 2 3", "1.1: 1 2 -"],
            &["1: 1.1.0", "2: !1.0.1 1.1.1", "3: 1.0.2"]
        ),
        "1 objects, 2 chunks, 1 degraded, 0 unavailable, 0 lost\n\
         absent 1.0.0 on 1\n\
         corrupt 1.0.1 on 2\n"
    );
}

#[test]
fn is_a_disk_that_does_not_answer_never_taken_for_one_that_is_empty() {
    let silent = THREE.replace("3 c active", "3 c active silent");
    assert_eq!(
        merge(
            &silent,
            &["1.0: 1 2 3", "2.0: 3 - -"],
            &["1: 1.0.0", "2: 1.0.1"]
        ),
        "2 objects, 2 chunks, 1 degraded, 1 unavailable, 0 lost\n"
    );
}

#[test]
fn is_an_object_lost_only_when_no_disk_that_counts_can_have_it() {
    let lost = THREE.replace("3 c active", "3 c lost silent");
    assert_eq!(
        merge(
            &lost,
            &["1.0: 1 - 3", "2.0: 3 - -", "3.0: - - -"],
            &["1: 1.0.0", "2:"]
        ),
        "3 objects, 3 chunks, 1 degraded, 0 unavailable, 2 lost\n\
         displaced 1.0.2 on 3\n\
         displaced 2.0.0 on 3\n"
    );
}

#[test]
fn are_fragments_of_a_node_that_is_down_given_up_only_where_there_is_room() {
    let rows = ["1.0: 1 2 3", "2.0: 3 - -"];
    let lists = ["1: 1.0.0", "2: 1.0.1"];
    assert_eq!(
        merge(ONE_DOWN, &rows, &lists),
        "2 objects, 2 chunks, 1 degraded, 1 unavailable, 0 lost\n"
    );
    // With a fourth node, but never the only one that there is.
    assert_eq!(
        merge(
            &format!("{ONE_DOWN}\n4 d active"),
            &rows,
            &["1: 1.0.0", "2: 1.0.1", "4:"]
        ),
        "2 objects, 2 chunks, 1 degraded, 1 unavailable, 0 lost\n\
         displaced 1.0.2 on 3\n"
    );
}

#[test]
fn is_a_fragment_that_nobody_refers_to_told_from_one_of_a_running_upload() {
    assert_eq!(
        merge(
            THREE,
            &["1.0: 1 2 3", "4.0: 1 2 running"],
            &["1: 1.0.0 3.0.0 4.0.0", "2: 1.0.1 1.0.2 4.0.1", "3: 1.0.2"],
        ),
        "1 objects, 1 chunks, 0 degraded, 0 unavailable, 0 lost\n\
         unreferenced 3.0.0 on 1\n\
         unreferenced 1.0.2 on 2\n"
    );
}

#[test]
fn is_an_object_that_spans_two_pages_counted_once_with_its_worst_chunk() {
    let mut tally = Tally::default();
    tally.chunk(upload(1), Standing::Degraded);
    tally.chunk(upload(1), Standing::Whole);
    tally.chunk(upload(2), Standing::Whole);
    tally.close();
    let counts = tally.total();
    assert_eq!((counts.objects, counts.chunks, counts.degraded), (2, 3, 1));
}
