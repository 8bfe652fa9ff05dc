//! One connection to PostgreSQL.

use std::collections::VecDeque;
use std::error::Error as StdError;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::IsNull;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{DataRowBody, ErrorFields, Message};
use postgres_protocol::message::frontend::{self, BindError, CopyData};
use postgres_protocol::types;

use super::sys::io::{self, Read, Write};
use super::sys::net::{SocketAddr, TcpStream};
use super::sys::time::Duration;

#[derive(Debug)]
pub enum Error {
    Io(io::Error),
    /// The server's: its SQLSTATE and its words.
    Server(String, String),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
}

/// The numbers that PostgreSQL's catalogue gives its types.
mod oid {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const INT8: u32 = 20;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const FLOAT8: u32 = 701;
}

impl Value {
    fn oid(&self) -> u32 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => oid::BOOL,
            Value::Int(_) => oid::INT8,
            Value::Float(_) => oid::FLOAT8,
            Value::Text(_) => oid::TEXT,
            Value::Bytes(_) => oid::BYTEA,
        }
    }

    fn encode(&self, buffer: &mut BytesMut) -> IsNull {
        match self {
            Value::Null => return IsNull::Yes,
            Value::Bool(value) => types::bool_to_sql(*value, buffer),
            Value::Int(value) => types::int8_to_sql(*value, buffer),
            Value::Float(value) => types::float8_to_sql(*value, buffer),
            Value::Text(value) => types::text_to_sql(value, buffer),
            Value::Bytes(value) => types::bytea_to_sql(value, buffer),
        }
        IsNull::No
    }

    fn decode(
        oid: u32,
        bytes: &[u8],
    ) -> std::result::Result<Value, Box<dyn StdError + Send + Sync>> {
        Ok(match oid {
            oid::BOOL => Value::Bool(types::bool_from_sql(bytes)?),
            oid::INT4 => Value::Int(types::int4_from_sql(bytes)?.into()),
            oid::INT8 => Value::Int(types::int8_from_sql(bytes)?),
            oid::FLOAT8 => Value::Float(types::float8_from_sql(bytes)?),
            oid::TEXT => Value::Text(types::text_from_sql(bytes)?.to_owned()),
            _ => Value::Bytes(bytes.to_vec()),
        })
    }
}

pub type Rows = Vec<Vec<Value>>;

/// What another connection needs to cancel a query of this one.
#[derive(Clone, Copy)]
pub struct CancelKey {
    address: SocketAddr,
    process: i32,
    secret: i32,
}

impl CancelKey {
    /// Asks the server to cancel what runs; it does not say whether it did.
    pub fn cancel(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        let mut request = BytesMut::new();
        frontend::cancel_request(self.process, self.secret, &mut request);
        stream.write_all(&request)?;
        stream.read_to_end(&mut Vec::new())?;
        Ok(())
    }
}

pub struct Connection {
    stream: TcpStream,
    key: CancelKey,
    incoming: BytesMut,
    outgoing: BytesMut,
    notifications: VecDeque<(String, String)>,
}

impl Connection {
    pub fn connect(
        address: SocketAddr,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        // Nothing here takes that long, except when something is wrong.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut connection = Connection {
            stream,
            key: CancelKey {
                address,
                process: 0,
                secret: 0,
            },
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            notifications: VecDeque::new(),
        };
        let parameters = [
            ("user", user),
            ("database", database),
            ("client_encoding", "UTF8"),
        ];
        frontend::startup_message(parameters, &mut connection.outgoing)?;
        connection.authenticate(password)?;
        Ok(connection)
    }

    fn authenticate(&mut self, password: &str) -> Result<()> {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        self.flush()?;
        loop {
            match self.receive()? {
                Message::AuthenticationSasl(body) => {
                    let offered: Vec<_> = body
                        .mechanisms()
                        .map(|name| Ok(name.to_owned()))
                        .collect()?;
                    if !offered.iter().any(|name| name == SCRAM_SHA_256) {
                        return Err(unexpected().into());
                    }
                    let out = &mut self.outgoing;
                    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), out)?;
                    self.flush()?;
                }
                Message::AuthenticationSaslContinue(body) => {
                    scram.update(body.data())?;
                    frontend::sasl_response(scram.message(), &mut self.outgoing)?;
                    self.flush()?;
                }
                Message::AuthenticationSaslFinal(body) => scram.finish(body.data())?,
                Message::AuthenticationOk => {}
                Message::BackendKeyData(body) => {
                    self.key.process = body.process_id();
                    self.key.secret = body.secret_key();
                }
                Message::ReadyForQuery(_) => return Ok(()),
                Message::ErrorResponse(body) => return Err(server_error(body.fields())?),
                _ => return Err(unexpected().into()),
            }
        }
    }

    pub fn cancel_key(&self) -> CancelKey {
        self.key
    }

    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)
    }

    /// Runs one statement of the extended protocol, with values in binary.
    pub fn query(&mut self, sql: &str, values: &[Value]) -> Result<Rows> {
        self.put_query(sql, values)?;
        self.flush()?;
        self.rows()
    }

    /// Runs statements in one pipeline. Each has its own outcome.
    pub fn pipeline(&mut self, statements: &[(&str, &[Value])]) -> Result<Vec<Result<Rows>>> {
        for (sql, values) in statements {
            self.put_query(sql, values)?;
        }
        self.flush()?;
        Ok(statements.iter().map(|_| self.rows()).collect())
    }

    fn put_query(&mut self, sql: &str, values: &[Value]) -> Result<()> {
        self.put_portal(sql, values)?;
        frontend::execute("", 0, &mut self.outgoing)?;
        frontend::sync(&mut self.outgoing);
        Ok(())
    }

    fn put_portal(&mut self, sql: &str, values: &[Value]) -> Result<()> {
        let out = &mut self.outgoing;
        frontend::parse("", sql, values.iter().map(Value::oid), out)?;
        frontend::bind(
            "",
            "",
            [1],
            values,
            |value, out| Ok(value.encode(out)),
            [1],
            out,
        )
        .map_err(|error| match error {
            BindError::Conversion(error) => io::Error::other(error),
            BindError::Serialization(error) => error,
        })?;
        frontend::describe(b'P', "", out)?;
        Ok(())
    }

    fn rows(&mut self) -> Result<Rows> {
        let mut oids = Vec::new();
        let mut rows = Vec::new();
        self.until_ready(|message| {
            match message {
                Message::RowDescription(body) => {
                    oids = body.fields().map(|field| Ok(field.type_oid())).collect()?;
                }
                Message::DataRow(body) => rows.push(row(&oids, &body)?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(rows)
    }

    /// Fetches `batch` rows at a time and tells `each` how many came.
    pub fn each_batch(&mut self, sql: &str, batch: i32, mut each: impl FnMut(usize)) -> Result<()> {
        self.put_portal(sql, &[])?;
        let mut has_more = true;
        while has_more {
            frontend::execute("", batch, &mut self.outgoing)?;
            frontend::flush(&mut self.outgoing);
            self.flush()?;
            let mut rows = 0;
            has_more = loop {
                match self.receive()? {
                    Message::DataRow(_) => rows += 1,
                    Message::PortalSuspended => break true,
                    Message::CommandComplete(_) => break false,
                    Message::ErrorResponse(body) => return Err(server_error(body.fields())?),
                    _ => {}
                }
            };
            each(rows);
        }
        frontend::sync(&mut self.outgoing);
        self.flush()?;
        self.until_ready(|_| Ok(()))
    }

    /// Runs statements of the simple protocol; returns how each ended.
    pub fn run(&mut self, sql: &str) -> Result<Vec<String>> {
        frontend::query(sql, &mut self.outgoing)?;
        self.flush()?;
        let mut ends = Vec::new();
        self.until_ready(|message| {
            if let Message::CommandComplete(body) = message {
                ends.push(body.tag()?.to_owned());
            }
            Ok(())
        })?;
        Ok(ends)
    }

    /// Sends `chunks` to a `COPY … FROM STDIN`.
    pub fn copy_in(&mut self, sql: &str, chunks: impl Iterator<Item = Vec<u8>>) -> Result<String> {
        frontend::query(sql, &mut self.outgoing)?;
        self.flush()?;
        loop {
            match self.receive()? {
                Message::CopyInResponse(_) => break,
                Message::ErrorResponse(body) => {
                    let error = server_error(body.fields())?;
                    self.until_ready(|_| Ok(()))?;
                    return Err(error);
                }
                _ => {}
            }
        }
        for chunk in chunks {
            CopyData::new(chunk.as_slice())?.write(&mut self.outgoing);
            self.flush()?;
        }
        frontend::copy_done(&mut self.outgoing);
        self.flush()?;
        let mut end = String::new();
        self.until_ready(|message| {
            if let Message::CommandComplete(body) = message {
                end = body.tag()?.to_owned();
            }
            Ok(())
        })?;
        Ok(end)
    }

    /// What a `COPY … TO STDOUT` sends.
    pub fn copy_out(&mut self, sql: &str) -> Result<Vec<u8>> {
        frontend::query(sql, &mut self.outgoing)?;
        self.flush()?;
        let mut bytes = Vec::new();
        self.until_ready(|message| {
            if let Message::CopyData(body) = message {
                bytes.extend_from_slice(body.data());
            }
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Waits for a notification: its channel and its payload.
    pub fn notification(&mut self) -> Result<(String, String)> {
        loop {
            if let Some(notification) = self.notifications.pop_front() {
                return Ok(notification);
            }
            let message = self.next_message()?;
            self.keep_notification(&message)?;
        }
    }

    /// Says good-bye and waits until the server has closed its side.
    pub fn close(mut self) -> Result<()> {
        frontend::terminate(&mut self.outgoing);
        self.flush()?;
        match self.stream.read_to_end(&mut Vec::new()) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Finishes a query whose rows do not matter or whose answer was late.
    pub fn until_ready(&mut self, mut each: impl FnMut(Message) -> io::Result<()>) -> Result<()> {
        let mut result = Ok(());
        loop {
            match self.receive() {
                Ok(Message::ReadyForQuery(_)) => return result,
                Ok(Message::ErrorResponse(body)) => result = Err(server_error(body.fields())?),
                Ok(message) => each(message)?,
                // Why the server has hung up says more than that it has.
                Err(error) => return result.and(Err(error.into())),
            }
        }
    }

    /// The next message that answers a request.
    fn receive(&mut self) -> io::Result<Message> {
        loop {
            match self.next_message()? {
                Message::ParameterStatus(_) | Message::NoticeResponse(_) => {}
                message @ Message::NotificationResponse(_) => self.keep_notification(&message)?,
                message => return Ok(message),
            }
        }
    }

    fn keep_notification(&mut self, message: &Message) -> io::Result<()> {
        if let Message::NotificationResponse(body) = message {
            let notification = (body.channel()?.to_owned(), body.message()?.to_owned());
            self.notifications.push_back(notification);
        }
        Ok(())
    }

    fn next_message(&mut self) -> io::Result<Message> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(message) = Message::parse(&mut self.incoming)? {
                return Ok(message);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.incoming.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.outgoing)?;
        self.outgoing.clear();
        Ok(())
    }
}

fn row(oids: &[u32], body: &DataRowBody) -> io::Result<Vec<Value>> {
    let mut oids = oids.iter();
    body.ranges()
        .map(|range| {
            let oid = *oids.next().ok_or_else(unexpected)?;
            match range {
                None => Ok(Value::Null),
                Some(range) => Value::decode(oid, &body.buffer()[range]).map_err(io::Error::other),
            }
        })
        .collect()
}

fn server_error(mut fields: ErrorFields<'_>) -> io::Result<Error> {
    let (mut code, mut words) = (String::new(), String::new());
    while let Some(field) = fields.next()? {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = value,
            b'M' => words = value,
            _ => {}
        }
    }
    Ok(Error::Server(code, words))
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not what the protocol says")
}
