use holdfast_metadata::command::MissingFragment;
use holdfast_metadata::protocol::FileEntry;
use holdfast_metadata::query::{DiskSum, repair_rank};
use holdfast_model::fragment::census_range;
use holdfast_model::placement::DiskUse;
use holdfast_model::{
    BucketId, Chunk, FragmentId, FragmentPlace, Generation, Redundancy, UploadId,
};

use super::*;
use crate::census::merge::{Findings, Tally, merge_span};
use crate::scenario::{Scenario, disk};
use crate::spans::Span;

const GROUP: GroupId = GroupId(1);
const NODES: [&str; 4] = [
    "1 a active\n2 b active\n3 c active\n4 d active",
    "1 a active\n2 b active\n3 c active silent\n4 d active",
    "1 a active\n2 b down silent\n3 c active\n4 d active",
    "1 a active\n2 b lost silent\n3 c drained\n4 d active",
];

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// What rows and disks hold, as they are.
struct World {
    scenario: Scenario,
    rows: Vec<ChunkRow>,
    files: BTreeMap<DiskId, Vec<FileEntry>>,
}

fn upload(dice: &mut Dice) -> UploadId {
    let mut bytes = [0; 16];
    // Ranges with many uploads, with few and with none.
    bytes[0] = (dice.below(16) * dice.below(16)) as u8;
    bytes[1..9].copy_from_slice(&dice.below(u64::MAX >> 33).to_be_bytes());
    UploadId::from_bytes(bytes)
}

impl World {
    /// Nearly everything is in order; the rest is wrong in every way there is.
    fn random(dice: &mut Dice) -> Self {
        let scenario = Scenario::read(NODES[dice.below(8).saturating_sub(4) as usize]);
        let mut rows = Vec::new();
        let mut files: BTreeMap<DiskId, BTreeMap<FragmentId, FileEntry>> = scenario
            .answering
            .iter()
            .filter(|disk| scenario.layout.node_of(**disk).unwrap().keeps_data())
            .map(|disk| (*disk, BTreeMap::new()))
            .collect();
        let faults = 1 << dice.below(14);
        for _ in 0..dice.below(1_500) {
            let (upload, committed) = (upload(dice), dice.below(40) > 0);
            for index in 0..1 + dice.below(3) as u32 {
                let mut chunk = Chunk {
                    index,
                    size: 100,
                    stored: 100,
                    redundancy: Redundancy::copies(3),
                    stripe_bytes: 100,
                    generation: Generation(1),
                    fragments: Vec::new(),
                };
                let first = dice.below(4) as u8;
                for copy in 0..3 {
                    let on = disk((first + copy) % 4 + 1);
                    let id = FragmentId {
                        group: GROUP,
                        upload,
                        chunk: index,
                        index: copy,
                    };
                    // 0: never written, 1: gone, 2: corrupt, 3: nobody refers to it.
                    let fault = dice.below(4 * faults);
                    if fault != 0 && fault != 3 {
                        let place = FragmentPlace {
                            index: copy,
                            disk: on,
                        };
                        chunk.fragments.push(place);
                    }
                    let entry = FileEntry {
                        id,
                        generation: Generation(1 + dice.below(9)),
                        bytes: 100,
                        corrupt: fault == 2,
                    };
                    if fault > 1
                        && let Some(files) = files.get_mut(&on)
                    {
                        files.insert(id, entry);
                    }
                }
                rows.push(ChunkRow {
                    upload,
                    chunk,
                    bucket: BucketId::from_bytes([0; 16]),
                    committed,
                });
            }
        }
        rows.sort_by_key(|row| (row.upload, row.chunk.index));
        rows.dedup_by_key(|row| (row.upload, row.chunk.index));
        let files = files
            .into_iter()
            .map(|(disk, files)| (disk, files.into_values().collect()));
        Self {
            scenario,
            rows,
            files: files.collect(),
        }
    }

    fn sight(&self) -> Sight {
        let mut sight = Sight::default();
        for row in &self.rows {
            let range = census_range(row.upload);
            sum_rows(&mut sight.sums, GROUP, std::slice::from_ref(row));
            let sums = sight.sums.get_mut(&range).unwrap();
            sums.chunks += u64::from(row.committed);
            sums.objects += u64::from(row.committed && row.chunk.index == 0);
            sums.degraded += u64::from(row.committed && repair_rank(&row.chunk).is_some());
        }
        for (disk, files) in &self.files {
            let ranges = sight.disks.entry(*disk).or_default();
            for file in files {
                let range = file.id.census_range();
                let digest = ranges.entry(range).or_insert(RangeDigest {
                    range,
                    fragments: 0,
                    names: 0,
                });
                digest.fragments += 1;
                digest.names ^= if file.corrupt { 0 } else { file.id.digest() };
            }
        }
        sight
    }

    fn walk(&self, run: Run, tally: &mut Tally) -> Findings {
        let within = |upload: UploadId| (run.first..=run.last).contains(&census_range(upload));
        let mut span = Span::default();
        span.rows
            .extend(self.rows.iter().filter(|row| within(row.upload)).cloned());
        for (disk, files) in &self.files {
            let files = files.iter().filter(|file| within(file.id.upload));
            span.files.insert(*disk, files.cloned().collect());
        }
        let use_of = DiskUse {
            answers: true,
            capacity: 1,
            ..DiskUse::default()
        };
        let uses = self.files.keys().map(|disk| (*disk, use_of));
        let layout = &self.scenario.layout;
        let found = merge_span(GROUP, &span, layout, &uses.collect(), tally);
        tally.close();
        found
    }
}

/// What was found, in one order.
fn sorted(found: Vec<Findings>) -> [Vec<String>; 4] {
    let mut all = [const { Vec::new() }; 4];
    let missing = |list: Vec<MissingFragment>| list.into_iter().map(|one| format!("{one:?}"));
    for found in found {
        all[0].extend(missing(found.absent));
        all[1].extend(missing(found.corrupt));
        all[2].extend(missing(found.displaced));
        all[3].extend(found.unreferenced.iter().map(|one| format!("{one:?}")));
    }
    all.iter_mut().for_each(|list| list.sort());
    all
}

#[test]
fn a_count_by_digests_says_of_random_states_what_a_full_walk_says() {
    let (mut skipped, mut walked, mut faults) = (0, 0, 0);
    for seed in 0..120 {
        let mut dice = Dice(seed);
        let world = World::random(&mut dice);
        let sight = world.sight();
        let checks = (0..dice.below(3)).map(|_| dice.below(256) as u8).collect();
        let plan = plan_walks(&sight, &checks);
        let (mut tally, mut whole) = (Tally::default(), Tally::default());
        let found = plan.runs.iter().map(|run| world.walk(*run, &mut tally));
        let found = sorted(found.collect());
        let all = sorted(vec![world.walk(Run::ALL, &mut whole)]);
        let mut counts = tally.total();
        for range in &plan.skipped {
            counts.objects += sight.sums_of(*range).objects;
            counts.chunks += sight.sums_of(*range).chunks;
        }
        assert_eq!(counts, whole.total(), "seed {seed}");
        assert!(found == all, "seed {seed}: other findings");
        skipped += plan
            .skipped
            .iter()
            .filter(|r| sight.sums.contains_key(r))
            .count();
        walked += plan.runs.len();
        faults += all.iter().flatten().count();
    }
    assert!(
        skipped > 1_000 && walked > 100 && faults > 1_000,
        "{skipped} {walked} {faults}"
    );
}

/// The first disk holds `held` in the range 7, of which the rows refer to `referred`.
fn sight(referred: (u64, u64), held: (u64, u64)) -> Sight {
    let mut sums = RangeSums::of(7);
    sums.disks = vec![DiskSum {
        disk: disk(1),
        fragments: referred.0,
        names: referred.1,
    }];
    let digest = RangeDigest {
        range: 7,
        fragments: held.0,
        names: held.1,
    };
    Sight {
        sums: BTreeMap::from([(7, sums)]),
        disks: BTreeMap::from([(disk(1), BTreeMap::from([(7, digest)]))]),
    }
}

#[test]
fn does_a_range_agree_only_with_the_same_fragments_on_every_disk_and_all_that_it_should_have() {
    assert!(sight((3, 5), (3, 5)).agrees(7));
    assert!(!sight((3, 5), (3, 4)).agrees(7));
    assert!(!sight((3, 5), (4, 5)).agrees(7));
    let mut silent = sight((3, 5), (3, 5));
    silent.disks.clear();
    assert!(!silent.agrees(7));
    let mut stranger = sight((3, 5), (3, 5));
    let held = stranger.disks[&disk(1)].clone();
    stranger.disks.insert(disk(2), held);
    assert!(!stranger.agrees(7));
    let mut degraded = sight((3, 5), (3, 5));
    degraded.sums.get_mut(&7).unwrap().degraded = 1;
    assert!(!degraded.agrees(7));
    assert!(degraded.agrees(8));
}

fn plan_of(bad: &[(u8, u64)], checks: &[u8]) -> String {
    let mut all = Sight::default();
    for range in 0..=u8::MAX {
        let mut sums = RangeSums::of(range);
        sums.chunks = 100;
        sums.degraded = bad.iter().find(|bad| bad.0 == range).map_or(0, |bad| bad.1);
        all.sums.insert(range, sums);
    }
    let plan = plan_walks(&all, &checks.iter().copied().collect());
    let walked: usize = plan
        .runs
        .iter()
        .map(|run| usize::from(run.last - run.first) + 1)
        .sum();
    assert_eq!(walked + plan.skipped.len(), 256);
    let runs = plan
        .runs
        .iter()
        .map(|run| format!("{}-{}", run.first, run.last));
    runs.collect::<Vec<_>>().join(" ")
}

#[test]
fn are_small_gaps_walked_as_well_and_checks_in_any_case() {
    assert_eq!(plan_of(&[], &[]), "");
    let far = [(0, 1), (4, 1), (255, 1)];
    assert_eq!(plan_of(&far, &[]), "0-0 4-4 255-255");
    assert_eq!(plan_of(&[(0, 1), (2, 1), (6, 1)], &[]), "0-2 6-6");
    assert_eq!(plan_of(&[(0, 1), (5, 1)], &[1, 9]), "0-1 5-5 9-9");
    let all: Vec<(u8, u64)> = (0..=255).map(|range| (range, 1)).collect();
    assert_eq!(plan_of(&all, &[]), "0-255");
}

#[test]
fn does_each_range_have_its_turn_within_the_time() {
    let hour = Duration::from_secs(3_600);
    let (mut next, mut seen) = (250, BTreeSet::new());
    for _ in 0..60 {
        let (ranges, then) = plan_checks(next, Duration::from_secs(60), hour);
        assert_eq!(ranges.len(), 5);
        seen.extend(ranges);
        next = then;
    }
    assert_eq!(seen.len(), 256);
    assert_eq!(
        plan_checks(3, Duration::ZERO, hour),
        (BTreeSet::from([3]), 4)
    );
    assert_eq!(plan_checks(3, hour * 9, hour).0.len(), 256);
}
