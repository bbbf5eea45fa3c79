//! Every result is compared with a published one or with the `bcrypt` crate's.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod equal;
mod lanes;
mod vectors;

use base64::Engine as _;
use bcrypt_lanes::{Job, Lanes, Output};

/// Does jobs of the given costs, salts and passwords; the results are in their order.
fn run<'a>(inputs: impl IntoIterator<Item = (u32, [u8; 16], &'a [u8])>) -> Vec<Output> {
    let jobs = inputs
        .into_iter()
        .map(|(cost, salt, password)| Job::new(cost, salt, password).unwrap())
        .zip(0..);
    let mut results: Vec<(usize, Output)> = Lanes::new().run(jobs).collect();
    results.sort_unstable();
    results.into_iter().map(|(_, output)| output).collect()
}

/// A hash's text form, of version 2b.
fn text(cost: u32, salt: [u8; 16], output: Output) -> String {
    let [salt, hash] = [&salt[..], &output[..23]].map(|bytes| bcrypt::BASE_64.encode(bytes));
    format!("$2b${cost:02}${salt}{hash}")
}
