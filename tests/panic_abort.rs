//! What a program that is compiled with `panic = "abort"` gets: everything but
//! interrupts, and a sentence where one would be needed.
//!
//! The library decides that at its own compilation, so the program is built as a
//! crate of its own here.

use std::fs;
use std::path::Path;
use std::process::Command;

const MANIFEST: &str = r#"
[package]
name = "aborts"
version = "0.0.0"
edition = "2024"

[dependencies]
greenring = { path = "GREENRING" }

[profile.dev]
panic = "abort"
debug = 0

[workspace]
"#;

const PROGRAM: &str = r#"
use greenring::io::Read;
use greenring::net::{TcpListener, TcpStream};
use greenring::{cancel, runtime, thread, time};
use std::time::Duration;

const SOON: Duration = Duration::from_millis(2);

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("works") => works(),
        Some("cancel") => thread::spawn(thread::park).cancel(),
        Some("timeout") => time::timeout(SOON, thread::park).unwrap(),
        Some("scope") => thread::scope(|s| {
            s.spawn(thread::park);
            s.cancel();
        }),
        other => panic!("{other:?}"),
    }
}

fn works() {
    assert!(!cancel::supported());
    // Time limits of sockets.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    assert!(stream.read(&mut [0]).is_err());
    // Scopes, joins with a limit, shields.
    let sum = thread::scope(|s| {
        let one = s.spawn(|| cancel::shield(|| 1));
        let two = s.spawn(|| {
            thread::sleep(SOON);
            2
        });
        one.join().unwrap() + two.join().unwrap()
    });
    assert_eq!(sum, 3);
    let mut parked = thread::spawn(thread::park);
    assert!(parked.join_timeout(SOON).is_none());
    parked.thread().unpark();
    parked.join().unwrap();
    // The end of a hub abandons what it cannot cancel.
    let left = runtime::Builder::new()
        .run(|| {
            let left = thread::spawn(thread::park);
            thread::yield_now();
            left
        })
        .unwrap();
    assert!(greenring::Cancelled::is(&left.join().unwrap_err()));
    println!("all of it works");
}
"#;

#[test]
fn all_but_interrupts_works_and_those_say_what_they_need() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panic_abort");
    fs::create_dir_all(place.join("src")).unwrap();
    let manifest = MANIFEST.replace("GREENRING", root.to_str().unwrap());
    fs::write(place.join("Cargo.toml"), manifest).unwrap();
    fs::write(place.join("src/main.rs"), PROGRAM).unwrap();
    // The same versions, which are there already.
    fs::copy(root.join("Cargo.lock"), place.join("Cargo.lock")).unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--target-dir"])
        .arg(place.join("target"))
        .current_dir(&place)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{errors}");

    let program = place.join("target/debug/aborts");
    let run = |scenario: &str| {
        let output = Command::new(&program)
            .arg(scenario)
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status, stderr)
    };
    let (status, stderr) = run("works");
    assert!(status.success(), "{stderr}");
    for (scenario, sentence) in [
        ("cancel", "cancelling a green thread needs unwinding"),
        ("timeout", "a time limit on a closure needs unwinding"),
        ("scope", "cancelling a green thread needs unwinding"),
    ] {
        let (status, stderr) = run(scenario);
        assert!(!status.success(), "{scenario} works");
        assert!(stderr.contains(sentence), "{scenario}: {stderr}");
        assert!(stderr.contains("panic = \"abort\""), "{stderr}");
    }
}
