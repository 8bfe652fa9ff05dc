//! The kernel never writes to memory that its owner has left, and an operation
//! that races with its own timeout or cancellation loses nothing.
//!
//! Time limits are hit on purpose at the moment at which the peer acts:
//! whatever the kernel did counts, or has not happened. All bytes carry their
//! position, so that a lost, doubled or swapped one shows. Buffers stand
//! between canaries, and the memory of a buffer that is gone is used again at
//! once and watched.
//!
//! `GREENRING_TEST_ROUNDS` is the number of timeouts to race, 50 000 if not set.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::net::{byte_at, bytes_from, pair, reset_on_close, shrink_buffers, std_pair};
use common::through::Read;
use common::{Rng, open_descriptors};
use greenring::io::{ErrorKind, Write};
use greenring::net::{Shutdown, TcpListener, TcpStream};
use greenring::time::{Duration, Instant};
use greenring::{runtime, thread};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// The shortest limit that a socket can have; the kernel rounds it up to one of
/// its ticks.
const SHORTEST: Duration = Duration::from_micros(1);

/// What stands where nobody should write.
const CANARY: u8 = 0xa5;

const BUFFER: usize = 96;

/// Timeouts to race in the first test; the others race a fixed part of it.
fn rounds() -> u64 {
    match std::env::var("GREENRING_TEST_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("GREENRING_TEST_ROUNDS is a number"),
        Err(_) => 50_000,
    }
}

/// A buffer between canaries.
#[repr(C)]
struct Guarded {
    before: [u8; 64],
    buffer: [u8; BUFFER],
    after: [u8; 64],
}

impl Guarded {
    fn new() -> Guarded {
        Guarded {
            before: [CANARY; 64],
            buffer: [CANARY; BUFFER],
            after: [CANARY; 64],
        }
    }

    /// Asserts that the first `count` bytes of the buffer are those from
    /// `position` on, and that nothing else was written.
    fn check(&self, position: usize, count: usize) {
        let (received, untouched) = self.buffer.split_at(count);
        assert_eq!(received, bytes_from(position, count), "at {position}");
        for part in [&self.before[..], untouched, &self.after[..]] {
            assert!(part.iter().all(|byte| *byte == CANARY), "a canary died");
        }
    }
}

/// One read, whose buffer is gone when this returns; `None` if its time ran out.
#[inline(never)]
fn read_guarded(stream: &TcpStream, position: usize, room: usize) -> Option<usize> {
    let mut guarded = Guarded::new();
    let result = (&mut &*stream).read(&mut guarded.buffer[..room]);
    match result {
        Ok(count) => {
            guarded.check(position, count);
            Some(count)
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
            guarded.check(position, 0);
            None
        }
    }
}

/// Takes the place of the frames of a read that has returned, lets the others
/// and the kernel run, and asserts that nobody wrote there.
#[inline(never)]
fn watch_the_place() {
    let frame = black_box([CANARY; 4096]);
    thread::yield_now();
    thread::yield_now();
    assert!(
        black_box(&frame).iter().all(|byte| *byte == CANARY),
        "somebody wrote to a frame that is gone"
    );
}

/// Tells a peer when an operation was begun whose time will run out.
#[derive(Clone)]
struct Begun {
    at: Rc<Cell<Option<Instant>>>,
    limit: Duration,
}

impl Begun {
    fn new(limit: Duration) -> Begun {
        Begun {
            at: Rc::default(),
            limit,
        }
    }

    /// Called right before the operation.
    fn note(&self) {
        self.at.set(Some(Instant::now()));
    }

    /// Sleeps until the time of an operation that was begun since the last call
    /// runs out, or some microseconds beside that; false if there was none for
    /// a while, and now and then without reason, so that time does run out.
    fn sleep_until_due(&self, rng: &mut Rng) -> bool {
        let Some(begun) = self.at.take() else {
            thread::sleep(self.limit / 4);
            return false;
        };
        let due = begun + self.limit;
        let microseconds = |count| Duration::from_micros(count);
        thread::sleep_until(match rng.below(8) {
            0 => due,
            1 => due - microseconds(rng.below(60)),
            2 | 3 => due + microseconds(rng.below(100)),
            4 => due + microseconds(rng.below(400)),
            5 => due + microseconds(rng.below(2000)) - microseconds(1000),
            _ => return false,
        });
        true
    }
}

both_backends_alone! {
    fn no_byte_is_lost_when_reads_time_out_as_their_peers_write() {
        const PAIRS: usize = 200;
        let target = rounds();
        let mut seeds = Rng::new("reads against green writers");
        let descriptors = open_descriptors();
        let timeouts = Rc::new(Cell::new(0));
        let bytes = Rc::new(Cell::new(0));
        let mut handles = Vec::new();
        for _ in 0..PAIRS {
            let (writer, reader) = pair();
            reader.set_read_timeout(Some(SHORTEST)).unwrap();
            let begun = Begun::new(reader.read_timeout().unwrap().unwrap());

            let mut rng = Rng::with_seed(seeds.next());
            let (reading, timed_out) = (begun.clone(), Rc::clone(&timeouts));
            let writing = thread::spawn(move || {
                let mut position = 0;
                while timed_out.get() < target {
                    if !reading.sleep_until_due(&mut rng) {
                        continue;
                    }
                    let count = 1 + rng.below(40) as usize;
                    (&writer).write_all(&bytes_from(position, count)).unwrap();
                    position += count;
                }
                writer.shutdown(Shutdown::Write).unwrap();
                position
            });

            let mut rng = Rng::with_seed(seeds.next());
            let (timed_out, counted) = (Rc::clone(&timeouts), Rc::clone(&bytes));
            handles.push(thread::spawn(move || {
                let mut position = 0;
                loop {
                    begun.note();
                    let room = 1 + rng.below(BUFFER as u64) as usize;
                    match read_guarded(&reader, position, room) {
                        Some(0) => break,
                        Some(count) => position += count,
                        None => timed_out.set(timed_out.get() + 1),
                    }
                    watch_the_place();
                }
                assert_eq!(position, writing.join().unwrap(), "bytes written");
                counted.set(counted.get() + position);
            }));
        }
        for handle in handles {
            handle.join().unwrap();
        }
        println!("{} timeouts raced, {} bytes", timeouts.get(), bytes.get());
        assert_eq!(runtime::stats().in_flight, 0);
        assert_eq!(open_descriptors(), descriptors);
    }

    fn no_byte_is_lost_when_another_os_thread_writes_as_reads_time_out() {
        const PAIRS: usize = 64;
        let target = rounds() / 10;
        let mut seeds = Rng::new("reads against an OS thread");
        let descriptors = open_descriptors();
        let epoch = Instant::now();
        /// When each read's time will have run out, in nanoseconds since `epoch`.
        type Deadlines = [AtomicU64; PAIRS];
        let deadlines: Arc<Deadlines> = Arc::new([const { AtomicU64::new(u64::MAX) }; PAIRS]);
        let over = Arc::new(AtomicBool::new(false));

        let (writers, readers): (Vec<_>, Vec<_>) = (0..PAIRS).map(|_| std_pair()).unzip();
        let mut rng = Rng::with_seed(seeds.next());
        let (awaited, is_over) = (Arc::clone(&deadlines), Arc::clone(&over));
        let writing = std::thread::spawn(move || {
            let mut written = [0; PAIRS];
            while !is_over.load(Ordering::Relaxed) {
                for (number, mut writer) in writers.iter().enumerate() {
                    let now = epoch.elapsed().as_nanos() as u64;
                    let aim = awaited[number].load(Ordering::Relaxed);
                    let off = now.abs_diff(aim.saturating_add(rng.below(60_000)));
                    if off < 30_000 && rng.below(4) == 0 {
                        let count = 1 + rng.below(40) as usize;
                        let bytes = bytes_from(written[number], count);
                        writer.write_all(&bytes).unwrap();
                        written[number] += count;
                    }
                }
            }
            written
        });

        let timeouts = Rc::new(Cell::new(0));
        let handles: Vec<_> = readers
            .into_iter()
            .enumerate()
            .map(|(number, reader)| {
                let reader = TcpStream::from(reader);
                reader.set_read_timeout(Some(SHORTEST)).unwrap();
                let limit = reader.read_timeout().unwrap().unwrap();
                let timed_out = Rc::clone(&timeouts);
                let (deadlines, over) = (Arc::clone(&deadlines), Arc::clone(&over));
                thread::spawn(move || {
                    let mut position = 0;
                    loop {
                        let deadline = epoch.elapsed() + limit;
                        deadlines[number].store(deadline.as_nanos() as u64, Ordering::Relaxed);
                        match read_guarded(&reader, position, BUFFER) {
                            Some(0) => break,
                            Some(count) => position += count,
                            None => timed_out.set(timed_out.get() + 1),
                        }
                        if timed_out.get() >= target {
                            over.store(true, Ordering::Relaxed);
                        }
                        watch_the_place();
                    }
                    position
                })
            })
            .collect();
        let received: Vec<_> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
        let written = writing.join().unwrap();
        println!("{} timeouts raced, {} bytes", timeouts.get(), written.iter().sum::<usize>());
        assert_eq!(received, written);
        assert_eq!(runtime::stats().in_flight, 0);
        assert_eq!(open_descriptors(), descriptors);
    }

    fn no_byte_is_lost_when_writes_time_out_as_their_peers_read() {
        const PAIRS: usize = 50;
        let target = rounds() / 40;
        let mut seeds = Rng::new("writes");
        let timeouts = Rc::new(Cell::new(0));
        let mut handles = Vec::new();
        for _ in 0..PAIRS {
            let (writer, reader) = pair();
            shrink_buffers(&writer, &reader);
            writer.set_write_timeout(Some(SHORTEST)).unwrap();
            let begun = Begun::new(writer.write_timeout().unwrap().unwrap());

            let mut rng = Rng::with_seed(seeds.next());
            let (writing, timed_out) = (begun.clone(), Rc::clone(&timeouts));
            let reading = thread::spawn(move || {
                let mut buffer = vec![0; 32 << 10];
                let mut position = 0;
                loop {
                    if timed_out.get() < target && !writing.sleep_until_due(&mut rng) {
                        continue;
                    }
                    let count = (&reader).read(&mut buffer).unwrap();
                    if count == 0 {
                        return position;
                    }
                    assert!(buffer[..count] == bytes_from(position, count), "at {position}");
                    position += count;
                }
            });

            let timed_out = Rc::clone(&timeouts);
            handles.push(thread::spawn(move || {
                let mut position = 0;
                while timed_out.get() < target {
                    let bytes = bytes_from(position, 8 << 10);
                    begun.note();
                    match (&writer).write(&bytes) {
                        Ok(count) => position += count,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::WouldBlock);
                            timed_out.set(timed_out.get() + 1);
                        }
                    }
                }
                drop(writer);
                assert_eq!(reading.join().unwrap(), position, "bytes accepted");
            }));
        }
        for handle in handles {
            handle.join().unwrap();
        }
        println!("{} timeouts raced", timeouts.get());
        assert_eq!(runtime::stats().in_flight, 0);
    }

    fn no_connection_is_lost_or_leaked_when_accepts_time_out_as_clients_connect() {
        const LISTENERS: usize = 100;
        let target = rounds() / 5;
        let mut seeds = Rng::new("accepts");
        let descriptors = open_descriptors();
        let timeouts = Rc::new(Cell::new(0));
        let connections = Rc::new(Cell::new(0));
        let mut handles = Vec::new();
        for _ in 0..LISTENERS {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::microseconds(1)).unwrap();
            let address = listener.local_addr().unwrap();
            let listener = TcpListener::from(listener);
            // What the kernel makes of the limit; accepted streams inherit it.
            let first = TcpStream::connect(address).unwrap();
            let limit = listener.accept().unwrap().0.read_timeout().unwrap().unwrap();
            drop(first);

            let begun = Begun::new(limit);
            let accepted = Rc::new(Cell::new(0));
            let connected = Rc::new(Cell::new(0));
            let over = Rc::new(Cell::new(false));

            let mut rng = Rng::with_seed(seeds.next());
            let (accepting, timed_out) = (begun.clone(), Rc::clone(&timeouts));
            let (is_accepted, now_connected) = (Rc::clone(&accepted), Rc::clone(&connected));
            let now_over = Rc::clone(&over);
            handles.push(thread::spawn(move || {
                let mut clients = VecDeque::new();
                while timed_out.get() < target {
                    if !accepting.sleep_until_due(&mut rng) {
                        continue;
                    }
                    let client = TcpStream::connect(address).unwrap();
                    // Ports are few: leave none waiting for stray segments.
                    reset_on_close(&client);
                    clients.push_back(client);
                    now_connected.set(now_connected.get() + 1);
                    while clients.len() > now_connected.get() - is_accepted.get() {
                        clients.pop_front();
                    }
                }
                now_over.set(true);
                while is_accepted.get() < now_connected.get() {
                    thread::sleep(limit);
                }
            }));

            let (timed_out, total) = (Rc::clone(&timeouts), Rc::clone(&connections));
            handles.push(thread::spawn(move || {
                let mut streams = VecDeque::new();
                while !over.get() || accepted.get() < connected.get() {
                    begun.note();
                    match listener.accept() {
                        Ok((stream, peer)) => {
                            assert_eq!(stream.peer_addr().unwrap(), peer);
                            accepted.set(accepted.get() + 1);
                            // The client closes first, by a reset.
                            streams.push_back(stream);
                            if streams.len() > 2 {
                                streams.pop_front();
                            }
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::WouldBlock);
                            timed_out.set(timed_out.get() + 1);
                        }
                    }
                }
                total.set(total.get() + accepted.get());
            }));
        }
        for handle in handles {
            handle.join().unwrap();
        }
        println!("{} timeouts raced, {} connections", timeouts.get(), connections.get());
        assert_eq!(runtime::stats().in_flight, 0);
        assert_eq!(open_descriptors(), descriptors);
    }

    /// Ends hubs whose green threads do not end, so that nobody is left to take
    /// what the operation in flight hands over.
    fn an_abandoned_accept_leaks_no_connection() {
        const HUBS: usize = 60;
        const CONNECTIONS: usize = 100;

        /// Accepts for ever, as destructors may: they get what they wait for.
        struct AcceptsInDrop(&'static TcpListener, Arc<AtomicBool>);

        impl Drop for AcceptsInDrop {
            fn drop(&mut self) {
                self.1.store(true, Ordering::Release);
                loop {
                    drop(self.0.accept().unwrap());
                }
            }
        }

        let backend = runtime::backend();
        let mut seeds = Rng::new("abandoned accepts");
        // What an abandoned green thread owns is leaked: it borrows instead.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listener: &TcpListener = Box::leak(Box::new(listener));
        let address = listener.local_addr().unwrap();
        let descriptors = open_descriptors();
        for _ in 0..HUBS {
            let accepts = Arc::new(AtomicBool::new(false));
            let mut rng = Rng::with_seed(seeds.next());
            let is_accepting = Arc::clone(&accepts);
            let connecting = std::thread::spawn(move || {
                while !is_accepting.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                let connect = |_| {
                    for _ in 0..rng.below(500) {
                        std::hint::spin_loop();
                    }
                    std::net::TcpStream::connect(address).unwrap()
                };
                (0..CONNECTIONS).map(connect).collect::<Vec<_>>()
            });
            let end_timeout = Duration::from_micros(seeds.below(2000));
            // The OS thread that calls this runs a hub already.
            let ended = std::thread::spawn(move || {
                let builder = runtime::Builder::new().backend(backend);
                builder.end_timeout(end_timeout).run(|| {
                    thread::spawn(|| {
                        let _guard = AcceptsInDrop(listener, accepts);
                        thread::park();
                    });
                    thread::yield_now();
                })
            });
            ended.join().unwrap().expect("the hub runs");
            let clients = connecting.join().unwrap();
            clients.iter().for_each(reset_on_close);
            drop(clients);
            // Those that nobody accepted.
            listener.set_nonblocking(true).unwrap();
            while listener.accept().is_ok() {}
            listener.set_nonblocking(false).unwrap();
        }
        assert_eq!(open_descriptors(), descriptors);
    }

    fn a_hub_may_end_while_its_peers_write() {
        end_hubs_under_reads("the hub ends", |_| {});
    }

    fn a_hub_may_end_by_a_panic_while_its_peers_write() {
        end_hubs_under_reads("the root panics", |_| panic!("on purpose"));
    }

    fn a_sibling_may_panic_and_the_hub_end_while_its_peers_write() {
        /// Parks while its green thread unwinds.
        struct ParksInDrop;

        impl Drop for ParksInDrop {
            fn drop(&mut self) {
                for _ in 0..3 {
                    thread::yield_now();
                }
            }
        }

        end_hubs_under_reads("a sibling panics", |rng| {
            thread::spawn(|| {
                let _guard = ParksInDrop;
                panic!("on purpose");
            });
            for _ in 0..rng.below(4) {
                thread::yield_now();
            }
        });
    }
}

/// Ends hubs whose green threads read, half of them to the stack and half to
/// the heap, while an OS thread writes to all of them; `last_act` is the root's.
fn end_hubs_under_reads(name: &str, last_act: fn(&mut Rng)) {
    const HUBS: usize = 60;
    const PAIRS: usize = 24;
    let backend = runtime::backend();
    let mut seeds = Rng::new(name);
    let descriptors = open_descriptors();
    let raced = Arc::new(AtomicU64::new(0));
    for _ in 0..HUBS {
        let (writers, readers): (Vec<_>, Vec<_>) = (0..PAIRS).map(|_| std_pair()).unzip();
        let readers: Vec<_> = readers
            .into_iter()
            .map(TcpStream::from)
            .map(Arc::new)
            .collect();
        let received: Arc<[Mutex<usize>; PAIRS]> = Arc::default();
        let ends = Arc::new(AtomicBool::new(false));

        let mut rng = Rng::with_seed(seeds.next());
        let is_ending = Arc::clone(&ends);
        let writing = std::thread::spawn(move || {
            while !is_ending.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            let mut written = [0; PAIRS];
            for _ in 0..PAIRS * 4 {
                let number = rng.below(PAIRS as u64) as usize;
                let count = 1 + rng.below(20) as usize;
                let bytes = bytes_from(written[number], count);
                (&writers[number]).write_all(&bytes).unwrap();
                written[number] += count;
                for _ in 0..rng.below(200) {
                    std::hint::spin_loop();
                }
            }
            written
        });

        let mut rng = Rng::with_seed(seeds.next());
        let (streams, counts) = (readers.clone(), Arc::clone(&received));
        // The OS thread that calls this runs a hub already.
        std::thread::spawn(move || {
            let body = || {
                for (number, stream) in streams.into_iter().enumerate() {
                    let counts = Arc::clone(&counts);
                    thread::spawn(move || read_until_cancelled(&stream, &counts[number], number));
                }
                // Half of the hubs end when the reads have just been asked for,
                // with bytes there already; the others later.
                if rng.below(2) == 0 {
                    common::net::wait_for_parked(PAIRS);
                }
                ends.store(true, Ordering::Release);
                for _ in 0..rng.below(20_000) {
                    std::hint::spin_loop();
                }
                thread::yield_now();
                last_act(&mut rng);
            };
            // The panic of the root comes back out of `run`.
            let ended = catch_unwind(AssertUnwindSafe(|| {
                runtime::Builder::new().backend(backend).run(body)
            }));
            if let Ok(result) = ended {
                result.expect("the hub runs");
            }
            watch_the_heap();
        })
        .join()
        .unwrap();

        let written = writing.join().unwrap();
        for (number, reader) in readers.into_iter().enumerate() {
            let mut reader = Arc::into_inner(reader).expect("nothing of the hub is left");
            let mut position = *received[number].lock().unwrap();
            if position < written[number] {
                raced.fetch_add(1, Ordering::Relaxed);
            }
            // What was not received by a read is still there, all of it.
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, bytes_from(position, rest.len()), "after {position}");
            position += rest.len();
            assert_eq!(position, written[number], "bytes written");
        }
    }
    println!(
        "{name}: {} of {} reads ended early",
        raced.load(Ordering::Relaxed),
        HUBS * PAIRS
    );
    assert_eq!(open_descriptors(), descriptors);
}

/// Reads on; the end of the hub ends it.
fn read_until_cancelled(stream: &TcpStream, received: &Mutex<usize>, number: usize) {
    let on_heap = RefCell::new(vec![CANARY; BUFFER]);
    loop {
        let position = *received.lock().unwrap();
        let count = if number.is_multiple_of(2) {
            read_guarded(stream, position, BUFFER).expect("no limit is set")
        } else {
            let mut buffer = on_heap.borrow_mut();
            let count = (&mut &*stream).read(&mut buffer).unwrap();
            assert_eq!(buffer[..count], bytes_from(position, count));
            count
        };
        assert!(count == 0 || byte_at(position) == bytes_from(position, 1)[0]);
        *received.lock().unwrap() += count;
    }
}

/// Takes memory that the buffers of a hub that has ended may have had, and
/// asserts that nobody writes to it while the peers go on.
fn watch_the_heap() {
    let places: Vec<_> = (0..64).map(|_| vec![CANARY; BUFFER]).collect();
    for _ in 0..200 {
        std::thread::yield_now();
    }
    for place in black_box(&places) {
        assert!(
            place.iter().all(|byte| *byte == CANARY),
            "somebody wrote to freed memory"
        );
    }
}
