//! bcrypt in lanes: jobs that come at any time, of any salt and password, at the lowest cost.

#![no_main]

use base64::Engine as _;
use bcrypt::Version;
use bcrypt_lanes::{Job, Lanes, Output};
use libfuzzer_sys::fuzz_target;

const COST: u32 = 4;
/// More of them take long and show nothing new: each lane is taken for the third time.
const MAX_JOBS: usize = 12;

struct Input<'a> {
    salt: [u8; 16],
    password: &'a [u8],
    /// How the lanes go on before it comes: so often, and each time for so many rounds.
    calls: u8,
    rounds: u32,
}

impl<'a> Input<'a> {
    /// A byte for calls and rounds, the length of the password, the salt, the password.
    fn take(data: &mut &'a [u8]) -> Option<Self> {
        let (&[time, length], rest) = data.split_first_chunk()?;
        let (&salt, rest) = rest.split_first_chunk()?;
        let (password, rest) = rest.split_at(rest.len().min(length.into()));
        *data = rest;
        Some(Self { salt, password, calls: time & 3, rounds: u32::from(time >> 2) })
    }

    fn check(&self, output: Output) {
        let plain = bcrypt::hash_with_salt(self.password, COST, self.salt).expect("a valid cost");
        let hash = plain.format_for_version(Version::TwoB);
        assert_eq!(bcrypt::BASE_64.encode(&output[..23]), hash[29..]);
    }
}

/// Goes on with all jobs, and says how many have ended: one or none.
fn advance(lanes: &mut Lanes<Input<'_>>, rounds: u32) -> usize {
    let done = lanes.advance(rounds);
    done.iter().map(|(input, output)| input.check(*output)).count()
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let mut lanes = Lanes::new();
    let (mut started, mut ended) = (0, 0);
    while started < MAX_JOBS
        && let Some(input) = Input::take(&mut data)
    {
        for _ in 0..input.calls {
            ended += advance(&mut lanes, input.rounds);
        }
        while lanes.vacant().is_none() {
            ended += advance(&mut lanes, input.rounds.max(1));
        }
        let job = Job::new(COST, input.salt, input.password).expect("a valid cost");
        lanes.vacant().expect("a free lane").start(&job, input);
        started += 1;
    }
    while lanes.busy() > 0 {
        ended += advance(&mut lanes, u32::MAX);
    }
    assert_eq!(started, ended, "a job is lost or done twice");
});
