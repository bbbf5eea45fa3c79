//! The same as the `bcrypt` crate, bit for bit.

use bcrypt::{BcryptError, Version};
use bcrypt_lanes::{Job, JobError, Lanes, Output, WIDTH};
use proptest::prelude::*;

use crate::{run, text};

/// All 24 bytes, of which a hash's text form has 23.
fn expected(cost: u32, salt: [u8; 16], password: &[u8]) -> Output {
    let key: Vec<u8> = password.iter().copied().chain([0]).take(72).collect();
    bcrypt::bcrypt(cost, salt, &key)
}

#[test]
fn passwords_of_any_length_count_as_they_do_in_the_bcrypt_crate() {
    const SALT: [u8; 16] = *b"sixteen salty by";
    let letters: Vec<u8> = (b'!'..=b'~').cycle().take(300).collect();
    let mut passwords: Vec<Vec<u8>> = (0..=75).map(|length| letters[..length].to_vec()).collect();
    passwords.extend([255, 256, 300].map(|length| letters[..length].to_vec()));
    // A NUL within is a byte like any other, and one at the end is not the one that bcrypt adds.
    passwords.extend([&b"\0"[..], b"\0\0", b"a\0", b"a\0b", b"a\0b\0"].map(<[u8]>::to_vec));
    passwords.extend([70, 71, 72, 73].map(|length| vec![0; length]));

    let outputs = run(passwords.iter().map(|password| (4, SALT, &password[..])));
    for (password, output) in passwords.iter().zip(outputs) {
        let plain = bcrypt::hash_with_salt(password, 4, SALT).unwrap();
        assert_eq!(text(4, SALT, output), plain.format_for_version(Version::TwoB), "{password:?}");
        assert_eq!(output, expected(4, SALT, password), "{password:?}");
    }
}

#[test]
fn what_the_bcrypt_crate_refuses_is_refused() {
    for length in 68..=80 {
        let password = vec![b'x'; length];
        let plain = bcrypt::non_truncating_hash_with_salt(&password, 4, [1; 16]);
        match (Job::non_truncating(4, [1; 16], &password), plain) {
            (Ok(_), Ok(_)) => assert!(length < 72),
            (Err(JobError::Truncation(ours)), Err(BcryptError::Truncation(theirs))) => {
                assert_eq!(ours, theirs);
            }
            (ours, theirs) => panic!("{length} bytes: {ours:?}, {theirs:?}"),
        }
    }
    for cost in [0, 1, 2, 3, 32, 33, 64, u32::MAX] {
        let plain = bcrypt::hash_with_salt("x", cost, [1; 16]);
        assert!(matches!(plain, Err(BcryptError::CostNotAllowed(refused)) if refused == cost));
        assert_eq!(Job::new(cost, [1; 16], b"x").err(), Some(JobError::Cost(cost)));
        assert_eq!(Job::non_truncating(cost, [1; 16], b"x").err(), Some(JobError::Cost(cost)));
    }
    for cost in 4..=31 {
        assert!(Job::new(cost, [1; 16], &[b'x'; 72]).is_ok(), "{cost}");
        assert!(Job::non_truncating(cost, [1; 16], &[b'x'; 71]).is_ok(), "{cost}");
    }
}

/// A job, and how the lanes go on before it comes: after how many calls, each of how many rounds.
#[derive(Debug, Clone)]
struct Arrival {
    cost: u32,
    salt: [u8; 16],
    password: Vec<u8>,
    calls: u32,
    rounds: u32,
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let lengths = prop_oneof![4 => 0..=72_usize, 1 => 73..=200_usize];
    let password = lengths.prop_flat_map(|length| prop::collection::vec(any::<u8>(), length));
    (4..=6_u32, any::<[u8; 16]>(), password, 0..4_u32, 1..40_u32).prop_map(
        |(cost, salt, password, calls, rounds)| Arrival { cost, salt, password, calls, rounds },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn jobs_that_come_and_go_at_any_time_give_what_the_bcrypt_crate_gives(
        arrivals in prop::collection::vec(arrival(), 1..=10),
    ) {
        let mut lanes = Lanes::new();
        let mut results = vec![None; arrivals.len()];
        let mut record = |done: Option<(usize, Output)>| {
            if let Some((ticket, output)) = done {
                assert_eq!(results[ticket].replace(output), None, "done twice");
            }
        };
        for (ticket, arrival) in arrivals.iter().enumerate() {
            for _ in 0..arrival.calls {
                record(lanes.advance(arrival.rounds));
            }
            while lanes.busy() == WIDTH {
                record(lanes.advance(arrival.rounds));
            }
            let job = Job::new(arrival.cost, arrival.salt, &arrival.password).unwrap();
            lanes.vacant().unwrap().start(&job, ticket);
        }
        while lanes.busy() > 0 {
            record(lanes.advance(u32::MAX));
        }
        for (Arrival { cost, salt, password, .. }, output) in arrivals.iter().zip(results) {
            prop_assert_eq!(output, Some(expected(*cost, *salt, password)));
        }
    }

    #[test]
    fn a_run_gives_what_the_bcrypt_crate_gives(
        jobs in prop::collection::vec(arrival(), 0..=10),
    ) {
        let outputs = run(jobs.iter().map(|job| (job.cost, job.salt, &job.password[..])));
        prop_assert_eq!(outputs.len(), jobs.len());
        for (Arrival { cost, salt, password, .. }, output) in jobs.iter().zip(outputs) {
            let plain = bcrypt::hash_with_salt(password, *cost, *salt).unwrap();
            prop_assert_eq!(
                text(*cost, *salt, output),
                plain.format_for_version(Version::TwoB)
            );
        }
    }
}
