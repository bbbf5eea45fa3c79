//! Hashes a second and thread at cost 10, of the `bcrypt` crate and of one to four lanes, in turns:
//!
//! `cargo run --release -p bcrypt-lanes --example rates [THREADS]`

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::{hint::black_box, iter, thread};

use bcrypt_lanes::{Job, JobError, Lanes, WIDTH};
use rustix::time::{ClockId, clock_gettime};

const COST: u32 = 10;
const SALT: [u8; 16] = *b"sixteen salty by";
const PASSWORD: &[u8] = b"correct horse battery staple";
const TURNS: usize = 15;
/// Hashes of one thread in a turn: 2 and 3 divide it too.
const HASHES: usize = 12;

fn plain() -> Result<(), JobError> {
    let key = [PASSWORD, &[0]].concat();
    for _ in 0..HASHES {
        black_box(bcrypt::bcrypt(COST, SALT, black_box(&key)));
    }
    Ok(())
}

fn lanes(width: usize) -> Result<(), JobError> {
    let mut lanes = Lanes::new();
    for _ in 0..HASHES / width {
        let job = || Job::new(COST, SALT, black_box(PASSWORD));
        let jobs: Vec<_> = iter::repeat_with(job).take(width).collect::<Result<_, _>>()?;
        black_box(lanes.run(jobs.into_iter().zip(0..)).count());
    }
    Ok(())
}

/// The seconds of processor time that each thread spends, on average: what else the machine does
/// counts for less than in elapsed time.
fn time(threads: usize, work: impl Fn() -> Result<(), JobError> + Sync) -> Result<f64, JobError> {
    let timed = || {
        let start = clock_gettime(ClockId::ThreadCPUTime);
        work()?;
        let spent = clock_gettime(ClockId::ThreadCPUTime) - start;
        Ok(spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9)
    };
    let sum = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(timed)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or(Ok(f64::NAN)))
            .sum::<Result<f64, _>>()
    })?;
    Ok(sum / threads as f64)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = std::env::args().nth(1).map_or(Ok(1), |text| text.parse())?;
    let mut times = [const { Vec::new() }; WIDTH + 1];
    for _ in 0..TURNS {
        times[0].push(time(threads, plain)?);
        for (width, times) in times.iter_mut().enumerate().skip(1) {
            times.push(time(threads, || lanes(width))?);
        }
    }
    let rates = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        [times[TURNS / 2], times[TURNS - 1], times[0]].map(|time| HASHES as f64 / time)
    });
    println!("| {threads} thread(s) | hashes/s and thread, median | slowest | fastest | ratio |");
    println!("|---|---:|---:|---:|---:|");
    for (width, [median, least, most]) in rates.into_iter().enumerate() {
        let name = if width == 0 { "bcrypt".to_owned() } else { format!("{width} lane(s)") };
        let ratio = median / rates[0][0];
        println!("| {name} | {median:.1} | {least:.1} | {most:.1} | {ratio:.2} |");
    }
    Ok(())
}
