//! Many senders and receivers of one channel, with random time limits and
//! cancellations, and an account of every item.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use greenring::sync::channel::{self, Receiver, Sender};
use greenring::thread;

use super::Rng;
use super::places::{Place, Side};

const SENDERS: u32 = 6;
const RECEIVERS: usize = 6;
const ITEMS: u32 = 60;

/// An item's fate: each a count.
const SENT: u32 = 1;
const RECEIVED: u32 = 1 << 8;
const RETURNED: u32 = 1 << 16;
const DROPPED: u32 = 1 << 24;

type Fates = Arc<Vec<AtomicU32>>;

/// What travels.
pub struct Item {
    number: u32,
    fates: Fates,
}

impl Item {
    fn note(&self, fate: u32) {
        self.fates[self.number as usize].fetch_add(fate, Ordering::Relaxed);
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.note(DROPPED);
    }
}

/// How one item is sent, or received, in one of several ways: the item comes
/// back if it was not sent in time, and `None` says that nothing came in time.
#[derive(Clone, Copy)]
pub struct Ways {
    pub send: fn(&Sender<Item>, Item, &mut Rng) -> Result<(), Item>,
    /// The error says that the channel is closed.
    pub recv: fn(&Receiver<Item>, &mut Rng) -> Result<Option<Item>, ()>,
}

pub const PLAIN: Ways = Ways {
    send: send_plainly,
    recv: recv_plainly,
};

pub fn short(rng: &mut Rng) -> Duration {
    Duration::from_micros(rng.below(40))
}

pub fn send_plainly(sender: &Sender<Item>, item: Item, rng: &mut Rng) -> Result<(), Item> {
    match rng.below(3) {
        0 => sender.send(item).map_err(|error| error.into_inner()),
        1 => sender.try_send(item).map_err(|error| error.into_inner()),
        _ => sender
            .send_timeout(item, short(rng))
            .map_err(|error| error.into_inner()),
    }
}

pub fn recv_plainly(receiver: &Receiver<Item>, rng: &mut Rng) -> Result<Option<Item>, ()> {
    match rng.below(3) {
        0 => receiver.recv().map(Some).map_err(drop),
        1 => match receiver.try_recv() {
            Ok(item) => Ok(Some(item)),
            Err(error) if error.is_disconnected() => Err(()),
            Err(_) => {
                thread::yield_now();
                Ok(None)
            }
        },
        _ => match receiver.recv_timeout(short(rng)) {
            Ok(item) => Ok(Some(item)),
            Err(error) if error.is_disconnected() => Err(()),
            Err(_) => Ok(None),
        },
    }
}

/// Runs a crowd here and one at the place, and checks the account.
pub fn storm(place: Place, capacity: usize, rng: &mut Rng, ways: Ways) {
    let fates: Fates = Arc::new((0..SENDERS * ITEMS).map(|_| AtomicU32::new(0)).collect());
    let (sender, receiver) = channel::bounded(capacity);
    let received = Arc::new(Mutex::new(Vec::new()));
    let mut crowds: Vec<Side<()>> = Vec::new();
    for (at, half) in [(Place::Here, 0), (place, 1)] {
        let rng = Rng::with_seed(rng.next());
        let (sender, receiver) = (sender.clone(), receiver.clone());
        let (fates, received) = (Arc::clone(&fates), Arc::clone(&received));
        crowds.push(at.run(move || crowd(at, half, sender, receiver, fates, received, rng, ways)));
    }
    drop((sender, receiver));
    crowds.into_iter().for_each(Side::join);
    for item in lock(&received).iter() {
        Item::note(item, RECEIVED);
    }
    lock(&received).clear();
    for (number, fate) in fates.iter().enumerate() {
        let fate = fate.load(Ordering::Relaxed);
        let is_accounted = [
            SENT + RECEIVED + DROPPED,
            RETURNED + DROPPED,
            // Its sender was cancelled, before it was sent or before it was made.
            DROPPED,
            0,
        ]
        .contains(&fate);
        assert!(
            is_accounted,
            "item {number} at {place:?}, capacity {capacity}: {fate:#x}"
        );
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Half of the senders and receivers, on green threads that are cancelled now
/// and then, or on OS threads.
#[allow(clippy::too_many_arguments)]
fn crowd(
    at: Place,
    half: u32,
    sender: Sender<Item>,
    receiver: Receiver<Item>,
    fates: Fates,
    received: Arc<Mutex<Vec<Item>>>,
    mut rng: Rng,
    ways: Ways,
) {
    let receivers: Vec<_> = (0..RECEIVERS / 2)
        .map(|_| {
            let receiver = receiver.clone();
            let received = Arc::clone(&received);
            let mut rng = Rng::with_seed(rng.next());
            move || {
                while let Ok(item) = (ways.recv)(&receiver, &mut rng) {
                    lock(&received).extend(item);
                }
            }
        })
        .collect();
    let senders: Vec<_> = (0..SENDERS / 2)
        .map(|n| {
            let sender = sender.clone();
            let fates = Arc::clone(&fates);
            let mut rng = Rng::with_seed(rng.next());
            let first = (half * SENDERS / 2 + n) * ITEMS;
            move || {
                for number in first..first + ITEMS {
                    let item = Item {
                        number,
                        fates: Arc::clone(&fates),
                    };
                    let fate = match (ways.send)(&sender, item, &mut rng) {
                        Ok(()) => SENT,
                        Err(item) => {
                            item.note(RETURNED);
                            continue;
                        }
                    };
                    fates[number as usize].fetch_add(fate, Ordering::Relaxed);
                }
            }
        })
        .collect();
    if at == Place::OsThread {
        drop((sender, receiver));
        let receivers = receivers.into_iter().map(std::thread::spawn);
        let receivers: Vec<_> = receivers.collect();
        let senders: Vec<_> = senders.into_iter().map(std::thread::spawn).collect();
        for side in senders.into_iter().chain(receivers) {
            side.join().unwrap();
        }
        return;
    }
    let receivers: Vec<_> = receivers.into_iter().map(thread::spawn).collect();
    let senders: Vec<_> = senders.into_iter().map(thread::spawn).collect();
    drop(sender);
    // Cancels one of each, at random moments; one receiver always stays.
    for victim in [&receivers[0], &senders[0]] {
        for _ in 0..rng.below(30) {
            thread::yield_now();
        }
        thread::sleep(short(&mut rng));
        victim.cancel();
    }
    for handle in senders.into_iter().chain(receivers) {
        let _ = handle.join();
    }
    drop(receiver);
}
