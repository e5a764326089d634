//! Seeds spread over processes: a panic or a loop without end takes one process
//! with it, and its seed is named.
//!
//! A worker reads a seed a line, prints what came of it, and then one line that
//! begins with [`END`].
#![allow(
    clippy::disallowed_methods,
    reason = "this runs simulations and is in none"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdfast_sim::{Run, points, run_seed};

use crate::Arguments;
use crate::show;

/// Begins the line after all that is printed of a seed.
const END: &str = "\u{1}end";
/// How often it is said how far it is.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// A seed takes about a second of a processor; one that takes this much of it
/// goes round in circles. Not the clock's time, which runs on where others have
/// the processor.
const SEED_LIMIT: Duration = Duration::from_secs(120);
/// The unit of times in `/proc`: USER_HZ, the same on every machine we run on.
const TICKS_A_SECOND: u64 = 100;
/// A seed that waits for something that does not come takes no processor.
const SEED_WAIT_LIMIT: Duration = Duration::from_secs(3_600);

/// What came of one seed.
struct Done {
    seed: u64,
    well: bool,
    text: String,
    /// How often faults and named points came.
    seen: Vec<String>,
}

/// Runs the seeds that come on the input.
pub fn work(arguments: &Arguments) -> ExitCode {
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let Ok(seed) = line.trim().parse() else {
            return ExitCode::from(2);
        };
        let nodes = arguments.nodes;
        let live = arguments.story;
        let report = run_seed(Run {
            seed,
            nodes,
            live,
            ..Run::default()
        });
        let text = show::text(&report, nodes, !live);
        let well = report.wrong.is_empty();
        let seen: Vec<&str> = report.seen.iter().map(String::as_str).collect();
        let printed = writeln!(out, "{text}{END} {well} {}", seen.join(" "));
        if printed.and_then(|()| out.flush()).is_err() {
            // Nobody listens any more.
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// What all threads share.
struct Shared {
    next: AtomicU64,
    end: u64,
    stop: AtomicBool,
    running: Mutex<BTreeMap<usize, Busy>>,
}

/// A worker at its seed.
struct Busy {
    child: Child,
    seed: u64,
    begun: Instant,
    /// What the worker had used when it began.
    used: Duration,
}

impl Busy {
    fn new(child: Child) -> Self {
        Self {
            used: Duration::ZERO,
            child,
            seed: 0,
            begun: Instant::now(),
        }
    }

    fn begin(&mut self, seed: u64) {
        self.seed = seed;
        self.begun = Instant::now();
        self.used = processor_time(self.child.id()).unwrap_or_default();
    }

    fn does_not_end(&self) -> bool {
        let used = processor_time(self.child.id()).unwrap_or_default();
        used.saturating_sub(self.used) > SEED_LIMIT || self.begun.elapsed() > SEED_WAIT_LIMIT
    }
}

/// The processor time of a process, from `/proc/PID/stat`; see proc_pid_stat(5).
fn processor_time(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold anything; utime and stime are the 12th
    // and 13th fields after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse().ok()?;
    let ticks = ticks + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1_000 / TICKS_A_SECOND))
}

/// Runs many seeds and says how far it is.
pub fn run(arguments: &Arguments) -> ExitCode {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = arguments.jobs.unwrap_or(cores).max(1);
    let shared = Arc::new(Shared {
        next: AtomicU64::new(arguments.seed),
        end: arguments.seed.saturating_add(arguments.count),
        stop: AtomicBool::new(false),
        running: Mutex::default(),
    });
    let (sender, receiver) = mpsc::channel();
    for job in 0..jobs {
        let (shared, sender) = (shared.clone(), sender.clone());
        let arguments = arguments.clone();
        std::thread::spawn(move || drive(job, &shared, &arguments, &sender));
    }
    drop(sender);
    let mut tally = Tally::new(arguments.count);
    loop {
        match receiver.recv_timeout(SAY_EVERY) {
            Ok(done) => tally.take(&done, arguments.each || arguments.story),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if tally.failed > 0 && !arguments.keep_going {
            shared.stop.store(true, Ordering::Relaxed);
            kill(&shared, |_| true);
            break;
        }
        kill(&shared, Busy::does_not_end);
        tally.say();
    }
    tally.end()
}

fn kill(shared: &Shared, which: impl Fn(&Busy) -> bool) {
    let mut running = shared
        .running
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    for busy in running.values_mut() {
        if which(busy) {
            if !shared.stop.load(Ordering::Relaxed) {
                eprintln!("seed {} does not end: its process is killed", busy.seed);
            }
            // It may have ended by itself meanwhile.
            let _ = busy.child.kill();
        }
    }
}

/// Gives seeds to one worker after the other, until there are no more.
fn drive(job: usize, shared: &Shared, arguments: &Arguments, done: &mpsc::Sender<Done>) {
    while !shared.stop.load(Ordering::Relaxed) {
        match serve(job, shared, arguments, done) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                eprintln!("a worker cannot be run: {error}");
                return;
            }
        }
    }
}

/// Runs seeds in one worker; says whether there are more when it has died.
fn serve(
    job: usize,
    shared: &Shared,
    arguments: &Arguments,
    done: &mpsc::Sender<Done>,
) -> std::io::Result<bool> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--worker");
    if let Some(nodes) = arguments.nodes {
        command.args(["--nodes", &nodes.to_string()]);
    }
    if arguments.story {
        command.arg("--story");
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let pipes = child.stdin.take().zip(child.stdout.take());
    let Some((mut input, output)) = pipes else {
        return Err(std::io::Error::other("a worker without pipes"));
    };
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    let lock = || {
        shared
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    lock().insert(job, Busy::new(child));
    loop {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        if seed >= shared.end || shared.stop.load(Ordering::Relaxed) {
            drop(input);
            let child = lock().remove(&job);
            if let Some(mut busy) = child {
                busy.child.wait()?;
            }
            return Ok(false);
        }
        if let Some(busy) = lock().get_mut(&job) {
            busy.begin(seed);
        }
        // A worker that has died is noticed by its silence.
        let _ = writeln!(input, "{seed}").and_then(|()| input.flush());
        let mut text = String::new();
        let mut last = None;
        for line in lines.by_ref() {
            if let Some(rest) = line.strip_prefix(END) {
                last = Some(rest.to_owned());
                break;
            }
            text.push_str(&line);
            text.push('\n');
        }
        let Some(last) = last else {
            let child = lock().remove(&job);
            let status = child.map(|mut busy| busy.child.wait()).transpose()?;
            let again = show::replay(seed, arguments.nodes);
            let status = status.map_or_else(String::new, |status| status.to_string());
            let text = format!(
                "{text}seed {seed} FAILED: its process ended ({status})\n  replay it with {again}\n"
            );
            let (well, seen) = (false, Vec::new());
            // The receiver is gone only when the run has ended.
            let _ = done.send(Done {
                seed,
                well,
                text,
                seen,
            });
            return Ok(true);
        };
        let mut words = last.split_whitespace();
        let well = words.next() == Some("true");
        let seen = words.map(str::to_owned).collect();
        let _ = done.send(Done {
            seed,
            well,
            text,
            seen,
        });
    }
}

/// What has come of all seeds so far.
struct Tally {
    begun: Instant,
    said: Instant,
    count: u64,
    done: u64,
    failed: u64,
    failures: Vec<u64>,
    seen: BTreeMap<String, u64>,
}

impl Tally {
    fn new(count: u64) -> Self {
        Self {
            begun: Instant::now(),
            said: Instant::now(),
            count,
            done: 0,
            failed: 0,
            failures: Vec::new(),
            seen: BTreeMap::new(),
        }
    }

    fn take(&mut self, done: &Done, each: bool) {
        self.done += 1;
        for one in &done.seen {
            *self.seen.entry(one.clone()).or_default() += 1;
        }
        if !done.well {
            self.failed += 1;
            self.failures.push(done.seed);
        }
        if each || !done.well {
            print!("{}", done.text);
        }
    }

    fn say(&mut self) {
        if self.said.elapsed() < SAY_EVERY || self.done == 0 {
            return;
        }
        self.said = Instant::now();
        let rate = self.done as f64 / self.begun.elapsed().as_secs_f64();
        let left = (self.count - self.done) as f64 / rate;
        eprintln!(
            "{} of {} seeds, {rate:.2} a second, {:.0} min {:.0} s left, {} failed",
            self.done,
            self.count,
            (left / 60.0).floor(),
            left % 60.0,
            self.failed,
        );
    }

    fn end(&self) -> ExitCode {
        let took = self.begun.elapsed().as_secs_f64();
        println!(
            "{} seeds in {took:.0} s ({:.2} s each), {} failed{}",
            self.done,
            took / self.done.max(1) as f64,
            self.failed,
            match self.failures.is_empty() {
                true => String::new(),
                false => format!(": {:?}", self.failures),
            },
        );
        let of = |kind: &str| {
            let named = self.seen.iter().filter_map(|(name, seeds)| {
                let name = name.strip_prefix(kind)?;
                Some(format!("{name} {seeds}"))
            });
            named.collect::<Vec<_>>().join(", ")
        };
        println!("faults, by the seeds that had them: {}", of("fault:"));
        println!("points at which power was cut: {}", of("point:"));
        let never: Vec<&str> = points::all()
            .filter(|point| !self.seen.contains_key(&format!("point:{point}")))
            .collect();
        if !never.is_empty() {
            println!("points at which it never was: {}", never.join(", "));
        }
        match self.failed {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}
