//! A short soak: `examples/soak.rs` says what that is.

mod common;
#[path = "../examples/soak/conversation.rs"]
mod conversation;
#[path = "../examples/soak/crowd.rs"]
mod crowd;
#[path = "../examples/soak/script.rs"]
mod script;

use std::rc::Rc;

use greenring::runtime::{Backend, Builder, stats};

use common::{Rng, is_child, on_builder};
use conversation::Tally;
use crowd::{Plan, resident_bytes};

/// Bytes of a reader's buffer.
const BUFFER: usize = 64 << 10;

/// Bytes of memory that the allocator may have kept for itself.
const SLACK: usize = 16 << 20;

/// Lets a crowd talk on the caller's hub until so many requests were answered.
fn soak(requests: u64) {
    let tally = Rc::new(Tally::default());
    let mut plan = Plan {
        seed: Rng::new("soak").next(),
        first: 0,
        requests: requests / 5,
        connections: 60,
    };
    println!("soak: the scripts' seed is {}", plan.seed);
    plan.first = crowd::run(plan, &tally).unwrap();
    let warm = resident_bytes();
    plan.requests = requests;
    crowd::run(plan, &tally).unwrap();
    let end = resident_bytes();
    // The buffers of readers stay with the hub.
    let most = warm + SLACK + stats().buffers * BUFFER;
    assert!(end <= most, "{warm} bytes have become {end}");
    println!("{tally}");
}

both_backends_alone! {
    fn every_byte_arrives_whatever_happens_and_nothing_is_left() {
        soak(10_000);
    }
}

#[test]
fn on_a_tiny_ring_with_few_buffers_too() {
    const TEST: &str = "on_a_tiny_ring_with_few_buffers_too";
    let tiny = || {
        for buffers in [2, 1024] {
            let builder = Builder::new().backend(Backend::Uring).ring_entries(4);
            let builder = builder.reader_buffers(buffers);
            on_builder(builder, Backend::Uring, || soak(2_500));
        }
    };
    if is_child("tiny") {
        return tiny();
    }
    let child = common::child(TEST, "tiny", []);
    child.assert_success();
}
