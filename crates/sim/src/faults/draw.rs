//! Drawing a schedule of faults from the seed: pure but for the draws.

use std::time::Duration;

use holdfast_runtime::Entropy;

use super::{Schedule, Step};
use crate::network::{GOOD, Quality};
use crate::points;

/// The first fault comes after this, when there is something to harm.
const QUIET: u64 = 2_000;
/// The last fault begins at this time, in milliseconds.
pub const LAST_BEGIN: u64 = 22_000;
/// Kinds of faults.
const KINDS: u64 = 30;
const HOUR: i64 = 3_600_000;
/// Of a disk that hangs, the longest that a piece of work takes.
const HANGS_MILLIS: u64 = 600_000;

/// Draws a schedule for `nodes` nodes.
pub fn draw(entropy: &dyn Entropy, nodes: usize) -> Schedule {
    let mut draw = Draw {
        entropy,
        nodes,
        steps: Vec::new(),
        damaged: false,
        pointed: false,
        drained: false,
        clocks_off: false,
    };
    let count = 2 + draw.below(5);
    for _ in 0..count {
        draw.fault();
    }
    draw.keep_indexes();
    let mut steps = draw.steps;
    // Stable, so that equal times keep the order in which they were drawn.
    steps.sort_by_key(|(at, _)| *at);
    steps
}

struct Draw<'e> {
    entropy: &'e dyn Entropy,
    nodes: usize,
    steps: Schedule,
    /// Whether something durable is damaged.
    damaged: bool,
    /// Whether power is cut at a point.
    pointed: bool,
    /// Whether a node is drained.
    drained: bool,
    /// Whether a clock is off at some time.
    clocks_off: bool,
}

impl Draw<'_> {
    fn below(&self, bound: u64) -> u64 {
        self.entropy.below(bound)
    }

    fn add(&mut self, at: u64, step: Step) {
        self.steps.push((Duration::from_millis(at), step));
    }

    fn during(&mut self, from: u64, to: u64, step: impl Fn(bool) -> Step) {
        self.add(from, step(true));
        self.add(to, step(false));
    }

    fn fault(&mut self) {
        let node = 1 + self.below(self.nodes as u64) as usize;
        let at = QUIET + self.below(LAST_BEGIN - QUIET);
        let short = at + 100 + self.below(1_500);
        let long = at + 500 + self.below(9_000);
        match self.below(KINDS) {
            0..6 => self.machine(node, at, short, long),
            6..12 => self.links(node, at, long),
            12..15 => self.slow(node, at, long),
            15..17 if !self.clocks_off => {
                // Of three clocks two that are off by the same are a majority.
                self.clocks_off = true;
                self.clocks(node, at, short);
            }
            17..20 => self.point(at),
            20..26 if !self.damaged => {
                self.damaged = true;
                self.damage(node, at, short);
            }
            26 => self.during(at, long, Step::FullAll),
            27 => self.add(at, Step::Grow),
            28 if self.nodes > 3 && !self.drained => {
                self.drained = true;
                self.add(at, Step::Drain(node));
            }
            _ => self.during(at, long, |on| Step::Full(node, on)),
        }
    }

    /// Machines stop and start.
    fn machine(&mut self, node: usize, at: u64, short: u64, long: u64) {
        match self.below(7) {
            0 => {
                self.add(at, Step::PowerCut(node));
                self.add(long, Step::Start(node));
            }
            1 | 2 => {
                self.add(at, Step::PowerCutAll);
                for number in 1..=self.nodes {
                    let later = short + self.below(800);
                    self.add(later, Step::Start(number));
                }
                self.add(short + 900, Step::StartAll);
            }
            3 => {
                let changes = self.below(25);
                self.add(at, Step::StopDisk(node, changes));
                self.add(at + 400, Step::PowerCut(node));
                self.add(at + 500 + self.below(2_000), Step::Start(node));
            }
            4 => {
                self.add(at, Step::Kill(node));
                self.add(short, Step::Start(node));
            }
            5 => {
                self.add(at, Step::Stop(node));
                self.add(at + 1_500, Step::Kill(node));
                self.add(at + 1_600, Step::Start(node));
            }
            _ => {
                let group = self.below(17) as u16;
                let mut now = at;
                for _ in 0..3 + self.below(3) {
                    self.add(now, Step::CutLeader(group));
                    now += 300 + self.below(1_500);
                    self.add(now, Step::StartAll);
                    now += 500 + self.below(1_500);
                }
            }
        }
    }

    /// Links are cut, or bad.
    fn links(&mut self, node: usize, at: u64, long: u64) {
        match self.below(7) {
            0 => self.during(at, long, |on| Step::Isolate(node, on)),
            1 => self.during(at, long, |on| Step::Deaf(node, on)),
            2 => self.during(at, long, |on| Step::Mute(node, on)),
            3 => {
                let kind = self.below(3);
                let mut now = at;
                for turn in 0..7 + self.below(6) {
                    let on = turn % 2 == 0;
                    self.add(
                        now,
                        match kind {
                            0 => Step::Isolate(node, on),
                            1 => Step::Deaf(node, on),
                            _ => Step::Mute(node, on),
                        },
                    );
                    now += 200 + self.below(1_300);
                }
                self.add(now, Step::Isolate(node, false));
            }
            4 => {
                let other = 1 + node % self.nodes;
                self.during(at, long, |on| Step::Pair(node, other, on));
            }
            5 => {
                let group = self.below(17) as u16;
                self.add(at, Step::Silence(Some(group)));
                self.add(long, Step::Silence(None));
            }
            _ => {
                let quality = Quality {
                    lost_per_mille: self.below(3) * self.below(90),
                    max_latency_millis: 5 + self.below(60),
                    late_per_mille: self.below(60),
                    late_millis: 200 + self.below(12_000),
                    repeated_per_mille: self.below(200),
                };
                self.add(at, Step::Links(quality));
                self.add(long, Step::Links(GOOD));
            }
        }
    }

    fn slow(&mut self, node: usize, at: u64, long: u64) {
        match self.below(3) {
            0 => self.during(at, long, |on| Step::SlowNode(node, on)),
            // It hangs, until whoever watches over its machine has enough.
            1 => {
                self.add(at, Step::SlowDisk(node, HANGS_MILLIS));
                self.add(long, Step::PowerCut(node));
                self.add(long + 100, Step::Start(node));
            }
            _ => {
                let millis = 50 + self.below(700);
                self.add(at, Step::SlowDisk(node, millis));
                self.add(long, Step::SlowDisk(node, 3));
            }
        }
    }

    fn clocks(&mut self, node: usize, at: u64, short: u64) {
        let off = if self.below(2) == 0 { HOUR } else { -HOUR };
        match self.below(3) {
            0 => {
                self.add(at, Step::PowerCut(node));
                self.add(short, Step::StartWithClock(node, off));
                self.add(short + 500 + self.below(9_000), Step::Clock(node, 0));
            }
            1 => {
                self.add(at, Step::Clock(node, off));
                self.add(at + 500 + self.below(9_000), Step::Clock(node, 0));
            }
            _ => {
                // Each in turn, never two at once.
                let turn = 500 + self.below(2_000);
                let mut now = at;
                for number in 1..=self.nodes {
                    self.add(now, Step::Clock(number, off));
                    now += turn;
                    self.add(now, Step::Clock(number, 0));
                    now += 200;
                }
            }
        }
    }

    /// In two seeds of three the engines save their indexes, as they would after
    /// thousands of fragments.
    fn keep_indexes(&mut self) {
        if self.below(3) == 0 {
            return;
        }
        for _ in 0..3 + self.below(8) {
            let at = QUIET + self.below(LAST_BEGIN);
            let node = 1 + self.below(self.nodes as u64) as usize;
            let whole = self.below(2) == 0;
            self.add(at, Step::KeepIndex(node, whole));
        }
    }

    /// Power is cut at a named point; where the point is one of repair or of a
    /// change of members, a node is away long enough that it is passed.
    fn point(&mut self, at: u64) {
        if self.pointed {
            return;
        }
        self.pointed = true;
        let many = self.below(30) * self.below(10);
        match self.below(6) {
            0 => self.cut(at, points::OFTEN, many),
            1 => self.cut(at, points::WRITING, many),
            2 => {
                self.cut(at, points::KEEPING, self.below(5));
                for turn in 0..6 {
                    let node = 1 + self.below(self.nodes as u64) as usize;
                    let later = at + 200 + turn * 700 + self.below(700);
                    self.add(later, Step::KeepIndex(node, turn % 2 == 0));
                }
            }
            3 => self.cut(at, points::COMPACTION, self.below(6)),
            _ => {
                let at = 3_000;
                let rare = [points::REPAIR, points::LAYOUT].concat();
                self.cut(at, &rare, self.below(4));
                let away = 1 + self.below(self.nodes as u64) as usize;
                if self.damaged || self.below(2) == 0 {
                    self.add(at, Step::PowerCut(away));
                    self.add(at + 9_000 + self.below(8_000), Step::Start(away));
                } else {
                    self.damaged = true;
                    self.add(at, Step::SwapDisk(away));
                }
            }
        }
    }

    fn cut(&mut self, at: u64, among: &[&'static str], before: u64) {
        let Some(point) = among.get(self.below(among.len() as u64) as usize) else {
            return;
        };
        self.add(at, Step::CutAt(point, before));
        for turn in 1..9 {
            // Whoever lost power there comes back, but not at once.
            self.add(at + turn * 3_000, Step::StartAll);
        }
    }

    /// What is durable is damaged, of one node only.
    fn damage(&mut self, node: usize, at: u64, short: u64) {
        let replaced = at + 1_500 + self.below(3_000);
        match self.below(12) {
            0 | 1 => {
                self.add(at, Step::FailSync(node));
                self.add(replaced, Step::Replace(node));
            }
            2..4 => {
                let (bits, heads) = (1 + self.below(12), self.below(2) == 0);
                self.add(at, Step::Flip(node, bits, heads));
                if self.below(2) == 0 {
                    self.add(at, Step::PowerCut(node));
                    self.add(short, Step::Start(node));
                }
            }
            4 => {
                self.add(at, Step::ZeroFile(node));
                if self.below(2) == 0 {
                    self.add(at, Step::PowerCut(node));
                    self.add(short, Step::Start(node));
                }
            }
            5 | 6 => {
                let bits = 1 + self.below(3);
                self.add(at, Step::RotLog(node, bits));
                self.add(replaced, Step::Replace(node));
            }
            7 | 8 => {
                let bits = 1 + self.below(6);
                self.add(at, Step::RotState(node, bits));
                self.add(replaced, Step::Replace(node));
            }
            9 if at.is_multiple_of(2) => self.add(at, Step::SwapDisk(node)),
            // By times that are drawn in any case: so others stay as they were.
            9 => {
                if short.is_multiple_of(2) && !self.pointed {
                    self.pointed = true;
                    self.cut(at, points::HEALING, 0);
                }
                self.add(at, Step::RotIndex(node));
            }
            10 => {
                self.add(at, Step::Lose(node));
                self.add(replaced, Step::Start(node));
                self.add(replaced + 5_000, Step::Replace(node));
            }
            _ => {
                // Two starts that the copy does not know of.
                self.add(at, Step::CopyDisk(node));
                self.add(at + 300, Step::Kill(node));
                self.add(at + 400, Step::Start(node));
                self.add(at + 2_000, Step::PowerCut(node));
                self.add(at + 2_200, Step::Start(node));
                self.add(at + 4_000, Step::OldDisk(node));
                self.add(at + 9_000, Step::Replace(node));
            }
        }
    }
}
