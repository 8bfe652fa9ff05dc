//! Who is there, under which name, in which room.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use greenring::sync::channel::{Sender, TrySendError};

/// The room in which everybody begins.
const LOBBY: &str = "lobby";

/// A line on its way to many: all their queues hold the same one.
pub type Line = Rc<str>;

/// Green threads of a hub take turns and give way only where they wait. Nothing
/// in this file waits, so a `RefCell` does what a lock would do elsewhere.
#[derive(Default)]
pub struct Hall {
    members: RefCell<BTreeMap<u64, Member>>,
    /// How many have come so far; numbers the next.
    come: Cell<u64>,
    lost: Cell<u64>,
    is_closed: Cell<bool>,
}

struct Member {
    nick: String,
    room: String,
    outbox: Sender<Line>,
    /// Lines that found the outbox full since one was last put there.
    missed: u64,
}

impl Member {
    /// Queues a line, or drops it: who speaks never waits for who reads.
    /// Returns how many lines were dropped.
    fn tell(&mut self, line: &Line) -> u64 {
        if self.missed > 0 {
            let gap = format!("* you read too slowly: {} lines are lost", self.missed);
            if self.outbox.try_send(gap.into()).is_ok() {
                self.missed = 0;
            }
        }
        match self.outbox.try_send(Rc::clone(line)) {
            // An outbox is closed once its owner has been told to go.
            Ok(()) | Err(TrySendError::Disconnected(_)) => 0,
            Err(TrySendError::Full(_)) => {
                self.missed += 1;
                1
            }
        }
    }
}

impl Hall {
    /// Lets someone in; what the others say goes to `outbox`.
    pub fn enter(&self, outbox: Sender<Line>) -> Seat<'_> {
        if self.is_closed.get() {
            outbox.close();
        }
        let number = self.come.get() + 1;
        self.come.set(number);
        let member = Member {
            nick: format!("guest{number}"),
            room: LOBBY.to_owned(),
            outbox,
            missed: 0,
        };
        self.members.borrow_mut().insert(number, member);
        let seat = Seat { hall: self, number };
        seat.tell("* welcome; /join ROOM, /nick NAME, /who and /quit are known");
        seat.announce("has come");
        seat
    }

    /// Closes all outboxes. What is queued is still delivered, then their
    /// receivers learn that nothing more will come.
    pub fn close(&self) {
        self.is_closed.set(true);
        for member in self.members.borrow().values() {
            member.outbox.close();
        }
    }

    /// How many have come so far.
    pub fn come(&self) -> u64 {
        self.come.get()
    }

    /// Lines that were dropped because somebody did not read them in time.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }

    fn tell_room(&self, room: &str, line: &str) {
        let line = Line::from(line);
        let mut members = self.members.borrow_mut();
        let here = members.values_mut().filter(|member| member.room == room);
        let lost: u64 = here.map(|member| member.tell(&line)).sum();
        self.lost.set(self.lost.get() + lost);
    }
}

/// Somebody's presence. Dropping it is leaving, however that comes: by `/quit`,
/// by a broken connection, by a panic or by being cancelled.
pub struct Seat<'a> {
    hall: &'a Hall,
    number: u64,
}

impl Seat<'_> {
    /// Says a line to all in the same room, the speaker too.
    pub fn say(&self, text: &str) {
        let (nick, room) = self.nick_and_room();
        self.hall.tell_room(&room, &format!("<{nick}> {text}"));
    }

    /// Moves to a room, which begins to exist by that.
    pub fn join(&self, room: &str) {
        self.announce("has left the room");
        self.change(|member| member.room = room.to_owned());
        self.announce(&format!("has joined {room}"));
    }

    /// Takes a name that nobody else has.
    pub fn rename(&self, nick: &str) {
        let is_taken = |other: &Member| other.nick == nick;
        if self.hall.members.borrow().values().any(is_taken) {
            return self.tell(&format!("* {nick} is taken"));
        }
        self.announce(&format!("is {nick} now"));
        self.change(|member| member.nick = nick.to_owned());
    }

    /// Tells this one who is where.
    pub fn who(&self) {
        let mut rooms = BTreeMap::<_, Vec<_>>::new();
        for Member { nick, room, .. } in self.hall.members.borrow().values() {
            rooms.entry(room.clone()).or_default().push(nick.clone());
        }
        for (room, nicks) in rooms {
            self.tell(&format!("* {room}: {}", nicks.join(" ")));
        }
    }

    /// Tells this one alone.
    pub fn tell(&self, text: &str) {
        let lost = self.change(|member| member.tell(&text.into()));
        self.hall.lost.set(self.hall.lost.get() + lost);
    }

    fn announce(&self, what: &str) {
        let (nick, room) = self.nick_and_room();
        self.hall.tell_room(&room, &format!("* {nick} {what}"));
    }

    fn nick_and_room(&self) -> (String, String) {
        self.change(|member| (member.nick.clone(), member.room.clone()))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Member) -> T) -> T {
        let mut members = self.hall.members.borrow_mut();
        let member = members.get_mut(&self.number);
        change(member.expect("only the seat's drop removes its member"))
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let member = self.hall.members.borrow_mut().remove(&self.number);
        if let Some(Member { nick, room, .. }) = member {
            self.hall.tell_room(&room, &format!("* {nick} has gone"));
        }
    }
}
