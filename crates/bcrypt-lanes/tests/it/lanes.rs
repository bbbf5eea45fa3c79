//! When a job starts and when its result is there.

use std::{cell::Cell, iter, rc::Rc};

use bcrypt_lanes::{Job, Lanes, WIDTH};

fn job(cost: u32) -> Job {
    Job::new(cost, [7; 16], b"password").unwrap()
}

#[test]
fn there_are_as_many_lanes_as_it_says() {
    let mut lanes = Lanes::new();
    for busy in 0..WIDTH {
        assert_eq!(lanes.busy(), busy);
        lanes.vacant().unwrap().start(&job(4), ());
    }
    assert!(lanes.vacant().is_none());
}

#[test]
fn without_a_job_there_is_nothing_to_do() {
    let mut lanes = Lanes::<()>::new();
    assert_eq!(lanes.advance(1), None);
    assert_eq!(lanes.run([]).count(), 0);
}

#[test]
fn a_job_ends_after_its_rounds_and_not_before() {
    let mut lanes = Lanes::new();
    lanes.vacant().unwrap().start(&job(5), "long");
    assert_eq!(lanes.advance(0), None);
    assert_eq!(lanes.advance(20), None);
    lanes.vacant().unwrap().start(&job(4), "short");
    assert_eq!(lanes.advance(11), None);
    assert_eq!(lanes.advance(1).unwrap().0, "long");
    assert_eq!(lanes.advance(3), None);
    assert_eq!(lanes.advance(u32::MAX).unwrap().0, "short");
    assert_eq!(lanes.busy(), 0);
}

#[test]
fn jobs_that_end_together_come_out_one_by_one() {
    let mut lanes = Lanes::new();
    for ticket in 0..WIDTH {
        lanes.vacant().unwrap().start(&job(4), ticket);
    }
    let mut tickets: Vec<_> = (0..WIDTH).map(|_| lanes.advance(16).unwrap().0).collect();
    tickets.sort_unstable();
    assert_eq!(tickets, (0..WIDTH).collect::<Vec<_>>());
    assert_eq!(lanes.advance(16), None);
}

#[test]
fn a_free_lane_takes_the_next_job_while_the_others_go_on() {
    // The first is as long as sixteen of the others, which pass it by.
    let jobs = iter::once(job(8)).chain(iter::repeat_with(|| job(4)).take(12)).zip(0..);
    let order: Vec<i32> = Lanes::new().run(jobs).map(|(ticket, _)| ticket).collect();
    assert_eq!(order.len(), 13);
    assert_eq!(order.last(), Some(&0));
}

#[test]
fn a_run_takes_no_job_before_there_is_a_lane_for_it() {
    let taken = Cell::new(0);
    let jobs = iter::repeat_with(|| job(4)).take(10).zip(1..).inspect(|(_, n)| taken.set(*n));
    let mut lanes = Lanes::new();
    for (ended, _) in lanes.run(jobs).enumerate() {
        assert!(taken.get() <= ended + WIDTH);
    }
    assert_eq!(taken.get(), 10);
}

#[test]
fn a_job_that_comes_while_others_are_under_way_starts_before_they_end() {
    let mut queue = [Some((job(8), "first")), None, Some((job(4), "second"))].into_iter();
    let jobs = iter::from_fn(|| queue.next().flatten());
    let order: Vec<_> = Lanes::new().run(jobs).map(|(ticket, _)| ticket).collect();
    assert_eq!(order, ["second", "first"]);
}

#[test]
fn a_run_ends_the_jobs_that_were_under_way_and_one_that_is_dropped_leaves_them() {
    let mut lanes = Lanes::new();
    lanes.vacant().unwrap().start(&job(6), 0);
    let mut run = lanes.run([(job(4), 1), (job(6), 2)]);
    assert_eq!(run.next().unwrap().0, 1);
    drop(run);
    assert_eq!(lanes.busy(), 2);
    assert_eq!(lanes.run([]).count(), 2);
}

#[test]
fn tickets_are_dropped_with_the_lanes() {
    let ticket = Rc::new(());
    let mut lanes = Lanes::new();
    lanes.vacant().unwrap().start(&job(4), Rc::clone(&ticket));
    drop(lanes);
    assert_eq!(Rc::strong_count(&ticket), 1);
}

#[test]
fn debug_shows_no_secret() {
    let mut lanes = Lanes::new();
    lanes.vacant().unwrap().start(&job(4), ());
    assert_eq!(format!("{:?} {lanes:?}", job(4)), "Job { rounds: 16, .. } Lanes { busy: 1, .. }");
}
