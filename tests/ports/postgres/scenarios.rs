//! What is asked of the server. Each leaves behind nothing that the next would
//! see, and returns what a user would see.

use greenring_ports::servers::Login;

use super::client::{Connection, Error, Result, Value};
use super::pool::Pool;
use super::sys::sync::mpsc;
use super::sys::thread;
use super::sys::time::Duration;

/// What the scenarios return, as text.
pub type Outcome = Result<Vec<String>>;

fn connect(login: Login) -> Result<Connection> {
    Connection::connect(login.address, login.user, login.password, "postgres")
}

fn show(outcome: Result<impl std::fmt::Debug>) -> String {
    match outcome {
        Ok(value) => format!("{value:?}"),
        Err(Error::Server(code, words)) => format!("{code} {words}"),
        Err(Error::Io(error)) => format!("{:?}", error.kind()),
    }
}

fn int(value: &Value) -> i64 {
    match value {
        Value::Int(value) => *value,
        other => panic!("a number, not {other:?}"),
    }
}

/// Right and wrong passwords, users and databases.
pub fn logins(login: Login) -> Outcome {
    let Login {
        address,
        user,
        password,
    } = login;
    let mut outcome = Vec::new();
    for (user, password, database) in [
        (user, password, "postgres"),
        (user, "wrong", "postgres"),
        ("nobody", password, "postgres"),
        (user, password, "nowhere"),
    ] {
        let connection = Connection::connect(address, user, password, database);
        outcome.push(show(connection.and_then(Connection::close)));
    }
    Ok(outcome)
}

/// Values of each type there and back, errors, and the connection after them.
pub fn extended_queries(login: Login) -> Outcome {
    let mut connection = connect(login)?;
    let mut outcome = Vec::new();
    let values = [
        Value::Null,
        Value::Bool(true),
        Value::Int(i64::MIN),
        Value::Float(-0.5),
        Value::Text("Grüße, 世界".into()),
        Value::Bytes((0..=255).collect()),
    ];
    let sql = "SELECT $1::text, $2, $3, $4, $5, $6, 7::int4 AS seven";
    outcome.push(show(connection.query(sql, &values)));
    outcome.push(show(connection.query("SELECT 1 / $1", &[Value::Int(0)])));
    outcome.push(show(connection.query("SELECT nothing FROM nowhere", &[])));
    let large = Value::Text("x".repeat(3_000_000));
    let echoed = connection.query("SELECT $1", std::slice::from_ref(&large))?;
    outcome.push((echoed == [[large]]).to_string());
    outcome.push(show(
        connection.run("CREATE TEMP TABLE t (n int8); INSERT INTO t VALUES (1), (2)"),
    ));
    // An error in the midst of a pipeline is of its own statement only.
    let pipelined = connection.pipeline(&[
        ("INSERT INTO t SELECT generate_series(3, 1000)", &[]),
        ("INSERT INTO t VALUES ($1 / 0)", &[Value::Int(1)]),
        (
            "SELECT count(*), sum(n)::int8 FROM t WHERE n > $1",
            &[Value::Int(10)],
        ),
    ])?;
    outcome.extend(pipelined.into_iter().map(show));
    connection.close()?;
    Ok(outcome)
}

/// A cursor: so many rows at a time.
pub fn rows_in_batches(login: Login) -> Outcome {
    let mut connection = connect(login)?;
    let mut outcome = Vec::new();
    let sql = "SELECT n, repeat('x', 1000) FROM generate_series(1, 2500) AS n";
    connection.each_batch(sql, 1000, |rows| outcome.push(rows.to_string()))?;
    outcome.push(show(connection.query("SELECT 'still here'::text", &[])));
    connection.close()?;
    Ok(outcome)
}

/// Fifty connections at once increment a row that each has to wait for.
pub fn rows_under_lock(login: Login) -> Outcome {
    let mut observer = connect(login)?;
    observer.run("CREATE TABLE counter (n int8); INSERT INTO counter VALUES (0)")?;
    let workers: Vec<_> = (0..50)
        .map(|_| {
            thread::spawn(move || -> Result<i64> {
                let mut connection = connect(login)?;
                connection.run("BEGIN")?;
                let rows = connection.query("SELECT n FROM counter FOR UPDATE", &[])?;
                let next = int(&rows[0][0]) + 1;
                connection.query("UPDATE counter SET n = $1", &[Value::Int(next)])?;
                connection.run("COMMIT")?;
                connection.close()?;
                Ok(next)
            })
        })
        .collect();
    let mut seen = Vec::new();
    for worker in workers {
        seen.push(worker.join().unwrap()?);
    }
    seen.sort_unstable();
    let mut outcome = vec![format!("{seen:?}")];
    outcome.push(show(observer.query("SELECT n FROM counter", &[])));
    observer.run("DROP TABLE counter")?;
    observer.close()?;
    Ok(outcome)
}

/// A hundred users of a pool of eight connections.
pub fn pooled_connections(login: Login) -> Outcome {
    let connections = (0..8).map(|_| connect(login)).collect::<Result<_>>()?;
    let pool = Pool::new(connections);
    let mut outcome = thread::scope(|scope| {
        let users: Vec<_> = (0..100)
            .map(|n| {
                let pool = &pool;
                scope.spawn(move || {
                    pool.with(|connection| {
                        show(connection.query("SELECT $1 * 2", &[Value::Int(n)]))
                    })
                })
            })
            .collect();
        users
            .into_iter()
            .map(|user| user.join().unwrap())
            .collect::<Vec<_>>()
    });
    let connections = pool.into_connections();
    outcome.push(connections.len().to_string());
    for connection in connections {
        connection.close()?;
    }
    Ok(outcome)
}

/// Waits until the server works on a query that is commented so.
fn wait_until_active(observer: &mut Connection, comment: &str) -> Result<()> {
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE wait_event = 'PgSleep' AND query LIKE '%' || $1 || '%'";
    while observer.query(sql, &[Value::Text(comment.into())])? != [[Value::Int(1)]] {}
    Ok(())
}

/// A query that sleeps is cancelled from beside, on a connection of its own.
pub fn cancelled_query(login: Login) -> Outcome {
    let mut observer = connect(login)?;
    let (keys, key) = mpsc::channel();
    let sleeper = thread::spawn(move || -> Outcome {
        let mut connection = connect(login)?;
        keys.send(connection.cancel_key()).unwrap();
        let cancelled = show(connection.query("SELECT pg_sleep(600) /* to be cancelled */", &[]));
        let after = show(connection.query("SELECT 'alive'::text", &[]));
        connection.close()?;
        Ok(vec![cancelled, after])
    });
    let key = key.recv().unwrap();
    wait_until_active(&mut observer, "to be cancelled")?;
    key.cancel()?;
    let outcome = sleeper.join().unwrap()?;
    observer.close()?;
    Ok(outcome)
}

/// The server is told to end a connection while it waits for its query.
pub fn terminated_connection(login: Login) -> Outcome {
    let mut observer = connect(login)?;
    let victim = thread::spawn(move || -> Result<String> {
        let mut connection = connect(login)?;
        let sql = "SELECT pg_sleep(600) /* to be terminated */";
        Ok(show(connection.query(sql, &[])))
    });
    wait_until_active(&mut observer, "to be terminated")?;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE wait_event = 'PgSleep' AND query LIKE '%to be terminated%'";
    let mut outcome = vec![show(observer.query(sql, &[]))];
    outcome.push(victim.join().unwrap()?);
    observer.close()?;
    Ok(outcome)
}

/// The socket's own time limit ends a read, and the answer comes later.
pub fn read_timeout(login: Login) -> Outcome {
    let mut holder = connect(login)?;
    holder.query("SELECT pg_advisory_lock(1)", &[])?;
    let (done, is_done) = mpsc::channel();
    let impatient = thread::spawn(move || -> Outcome {
        let mut connection = connect(login)?;
        connection.set_read_timeout(Some(Duration::from_millis(30)))?;
        let late = show(connection.query("SELECT pg_advisory_lock(1)", &[]));
        connection.set_read_timeout(None)?;
        done.send(()).unwrap();
        let answer = show(connection.until_ready(|_| Ok(())));
        connection.close()?;
        Ok(vec![late, answer])
    });
    let mut outcome = Vec::new();
    while is_done.try_recv().is_err() {
        holder.query("SELECT 1", &[])?;
    }
    outcome.push(show(holder.query("SELECT pg_advisory_unlock(1)", &[])));
    outcome.extend(impatient.join().unwrap()?);
    holder.close()?;
    Ok(outcome)
}

/// Ten listeners hear each notification, and one may speak to itself.
pub fn notifications(login: Login) -> Outcome {
    let mut speaker = connect(login)?;
    speaker.run("LISTEN news")?;
    let (ready, is_ready) = mpsc::channel();
    let listeners: Vec<_> = (0..10)
        .map(|_| {
            let ready = ready.clone();
            thread::spawn(move || -> Outcome {
                let mut connection = connect(login)?;
                connection.run("LISTEN news")?;
                ready.send(()).unwrap();
                let mut heard = Vec::new();
                while heard.last().is_none_or(|last| last != "news: last") {
                    let (channel, payload) = connection.notification()?;
                    heard.push(format!("{channel}: {payload}"));
                }
                connection.close()?;
                Ok(heard)
            })
        })
        .collect();
    for _ in 0..10 {
        is_ready.recv().unwrap();
    }
    for n in 0..20 {
        speaker.query(
            "SELECT pg_notify('news', $1)",
            &[Value::Text(format!("number {n}"))],
        )?;
    }
    speaker.run("NOTIFY news, 'last'")?;
    let mut outcome = Vec::new();
    for listener in listeners {
        outcome.extend(listener.join().unwrap()?);
    }
    for _ in 0..21 {
        let (channel, payload) = speaker.notification()?;
        outcome.push(format!("{channel}: {payload}"));
    }
    speaker.close()?;
    Ok(outcome)
}

/// Some megabytes into a table and out of it again.
pub fn bulk_copies(login: Login) -> Outcome {
    let mut connection = connect(login)?;
    connection.run("CREATE TEMP TABLE bulk (n int8, word text)")?;
    let line = |n: usize| format!("{n}\t{}\n", "word ".repeat(n % 40)).into_bytes();
    let sql = "COPY bulk FROM STDIN";
    let chunks = (0..200).map(|chunk| (chunk * 200..(chunk + 1) * 200).flat_map(line).collect());
    let mut outcome = vec![show(connection.copy_in(sql, chunks))];
    let copied = connection.copy_out("COPY (SELECT * FROM bulk ORDER BY n) TO STDOUT")?;
    let expected: Vec<u8> = (0..40_000).flat_map(line).collect();
    outcome.push(format!("{} {}", copied.len(), copied == expected));
    let nonsense = std::iter::once(b"not a number\tword\n".to_vec());
    outcome.push(show(connection.copy_in(sql, nonsense)));
    outcome.push(show(connection.query("SELECT count(*) FROM bulk", &[])));
    connection.close()?;
    Ok(outcome)
}
