//! What is asked of the server. Each begins with an empty database and returns
//! what a user would see.

use super::client::{Client, Reply, Shared};
use super::sys::io;
use super::sys::net::SocketAddr;
use super::sys::sync::{Arc, mpsc};
use super::sys::thread;
use super::sys::time::Duration;

/// What the scenarios return, as text.
pub type Outcome = io::Result<Vec<String>>;

fn fresh(address: SocketAddr) -> io::Result<Client> {
    let mut client = Client::connect(address)?;
    client.call(&["FLUSHALL"])?;
    Ok(client)
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Nil => "nil".into(),
        Reply::Status(word) => word.clone(),
        Reply::Error(message) => format!("error: {message}"),
        Reply::Integer(number) => number.to_string(),
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Array(replies) => {
            let replies: Vec<_> = replies.iter().map(text).collect();
            format!("[{}]", replies.join(" "))
        }
    }
}

/// A hundred clients, each with a pipeline of a hundred commands.
pub fn pipelines(address: SocketAddr) -> Outcome {
    let mut observer = fresh(address)?;
    let clients: Vec<_> = (0..100)
        .map(|client| {
            thread::spawn(move || -> io::Result<Vec<Reply>> {
                let mut redis = Client::connect(address)?;
                let key = format!("list:{client}");
                for n in 0..48 {
                    redis.send(&["RPUSH", &key, &format!("{client}.{n}")])?;
                    redis.send(&["INCR", "all"])?;
                }
                redis.send(&["LRANGE", &key, "0", "-1"])?;
                redis.send(&["INCR", &key])?;
                redis.send(&["MGET", "none", "neither"])?;
                redis.send(&["PING"])?;
                let mut replies = redis.finish()?;
                // In which order the clients count together is nobody's promise.
                for n in 0..48 {
                    replies[2 * n + 1] = Reply::Nil;
                }
                Ok(replies)
            })
        })
        .collect();
    let mut outcome = Vec::new();
    for client in clients {
        outcome.push(text(&Reply::Array(client.join().unwrap()?)));
    }
    outcome.push(text(&observer.call(&["GET", "all"])?));
    Ok(outcome)
}

/// Values that are larger than what the sockets hold, in one pipeline.
pub fn large_values(address: SocketAddr) -> Outcome {
    let mut redis = fresh(address)?;
    let value: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    for n in 0..8 {
        redis.send(&[b"SET".as_slice(), format!("large:{n}").as_bytes(), &value])?;
    }
    for n in 0..8 {
        redis.send(&["GET", &format!("large:{n}")])?;
    }
    Ok(redis
        .finish()?
        .iter()
        .map(|reply| match reply {
            Reply::Bulk(bytes) => format!("{} {}", bytes.len(), *bytes == value),
            other => text(other),
        })
        .collect())
}

/// Twenty subscribers of a channel or a pattern, each message to all of them.
pub fn publish_and_subscribe(address: SocketAddr) -> Outcome {
    let mut publisher = fresh(address)?;
    let (subscribed, all_subscribed) = mpsc::channel();
    let subscribers: Vec<_> = (0..20)
        .map(|n| {
            let subscribed = subscribed.clone();
            thread::spawn(move || -> io::Result<Vec<String>> {
                let mut redis = Client::connect(address)?;
                let command = if n % 2 == 0 {
                    ["SUBSCRIBE", "news.today"]
                } else {
                    ["PSUBSCRIBE", "news.*"]
                };
                let mut seen = vec![text(&redis.call(&command)?)];
                subscribed.send(()).unwrap();
                loop {
                    let message = text(&redis.receive()?);
                    let is_last = message.ends_with(" last]");
                    seen.push(message);
                    if is_last {
                        return Ok(seen);
                    }
                }
            })
        })
        .collect();
    for _ in 0..20 {
        all_subscribed.recv().unwrap();
    }
    let mut outcome = Vec::new();
    for n in 0..50 {
        let receivers = publisher.call(&["PUBLISH", "news.today", &format!("message {n}")])?;
        outcome.push(text(&receivers));
    }
    outcome.push(text(&publisher.call(&[
        "PUBLISH",
        "weather",
        "nobody hears",
    ])?));
    outcome.push(text(&publisher.call(&["PUBLISH", "news.today", "last"])?));
    for subscriber in subscribers {
        outcome.extend(subscriber.join().unwrap()?);
    }
    Ok(outcome)
}

/// Waiters in `BLPOP`, with a sibling that works until all of them wait.
pub fn blocking_pops(address: SocketAddr) -> Outcome {
    let mut worker = fresh(address)?;
    let waiters: Vec<_> = (0..30)
        .map(|n| {
            thread::spawn(move || {
                Client::connect(address)?.call(&["BLPOP", &format!("queue:{n}"), "0"])
            })
        })
        .collect();
    loop {
        worker.call(&["INCR", "work"])?;
        if text(&worker.call(&["INFO", "clients"])?).contains("\r\nblocked_clients:30\r\n") {
            break;
        }
    }
    for n in (0..30).rev() {
        worker.call(&["RPUSH", &format!("queue:{n}"), &format!("item {n}")])?;
    }
    let mut outcome = Vec::new();
    for waiter in waiters {
        outcome.push(text(&waiter.join().unwrap()?));
    }
    outcome.push(text(&worker.call(&["BLPOP", "queue:0", "0.01"])?));
    Ok(outcome)
}

/// The socket's own time limit ends a read; the connections beside it go on.
pub fn read_timeouts(address: SocketAddr) -> Outcome {
    let mut sibling = fresh(address)?;
    let (done, is_done) = mpsc::channel();
    let impatient = thread::spawn(move || -> io::Result<String> {
        let mut redis = Client::connect(address)?;
        redis.set_read_timeout(Some(Duration::from_millis(30)))?;
        let error = redis.call(&["BLPOP", "nothing", "0"]).unwrap_err();
        // The reply was only late: it comes when there is something to pop.
        done.send(()).unwrap();
        redis.set_read_timeout(None)?;
        Ok(format!(
            "{:?}, then {}",
            error.kind(),
            text(&redis.receive()?)
        ))
    });
    while is_done.try_recv().is_err() {
        sibling.call(&["INCR", "work"])?;
    }
    let pushed = text(&sibling.call(&["RPUSH", "nothing", "something"])?);
    Ok(vec![pushed, impatient.join().unwrap()?])
}

/// Transactions, one of which is overtaken, a script, and errors in between.
pub fn transactions_and_errors(address: SocketAddr) -> Outcome {
    let mut redis = fresh(address)?;
    let mut other = Client::connect(address)?;
    let mut replies = Vec::new();
    replies.push(redis.call(&["WATCH", "account"])?);
    replies.push(other.call(&["SET", "account", "10"])?);
    for overtaken in [true, false] {
        redis.send(&["MULTI"])?;
        redis.send(&["INCRBY", "account", "5"])?;
        redis.send(&["LPUSH", "account", "not a list"])?;
        redis.send(&["EXEC"])?;
        replies.extend(redis.finish()?);
        replies.push(Reply::Status(format!("overtaken: {overtaken}")));
    }
    let script = "return {1, 'two', {redis.call('GET', KEYS[1]), false}, redis.error_reply('no')}";
    replies.push(redis.call(&["EVAL", script, "1", "account"])?);
    replies.push(redis.call(&["NONSENSE"])?);
    Ok(replies.iter().map(text).collect())
}

/// A hundred callers share one connection.
pub fn shared_connection(address: SocketAddr) -> Outcome {
    drop(fresh(address)?);
    let redis = Arc::new(Shared::connect(address)?);
    let callers: Vec<_> = (0..100)
        .map(|n| {
            let redis = Arc::clone(&redis);
            thread::spawn(move || -> io::Result<Vec<String>> {
                let key = format!("caller:{n}");
                let mut seen = Vec::new();
                for value in 0..20 {
                    seen.push(text(&redis.call(&["SET", &key, &value.to_string()])?));
                    seen.push(text(&redis.call(&["GET", &key])?));
                }
                Ok(seen)
            })
        })
        .collect();
    let mut outcome = Vec::new();
    for caller in callers {
        outcome.extend(caller.join().unwrap()?);
    }
    Ok(outcome)
}

/// The server hangs up on a client that waits.
pub fn killed_connection(address: SocketAddr) -> Outcome {
    let mut killer = fresh(address)?;
    let (is_known, known) = mpsc::channel();
    let victim = thread::spawn(move || -> io::Result<String> {
        let mut redis = Client::connect(address)?;
        is_known
            .send(text(&redis.call(&["CLIENT", "ID"])?))
            .unwrap();
        let error = redis.call(&["BLPOP", "nothing", "0"]).unwrap_err();
        Ok(format!("{:?}", error.kind()))
    });
    let id = known.recv().unwrap();
    while !text(&killer.call(&["INFO", "clients"])?).contains("\r\nblocked_clients:1\r\n") {}
    let killed = text(&killer.call(&["CLIENT", "KILL", "ID", &id])?);
    Ok(vec![killed, victim.join().unwrap()?])
}
