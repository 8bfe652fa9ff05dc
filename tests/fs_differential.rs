//! greenring does with files what std does: the same scripts of calls, run by
//! the same program over `std` and over `greenring` on both backends, give the
//! same results, positions, partial counts and errors.
//!
//! The program is written once, as a macro that is expanded with `use std as
//! rt` and with `use greenring as rt`; nothing else differs. Each run has a
//! directory of its own, which is removed from what it says.
//!
//! Random scripts are shrunk by proptest, which prints the shortest that
//! differs. `GREENRING_TEST_SCRIPTS` is their number, 100 if not set.

mod common;

use common::files::Directory;
use common::is_available;
use greenring::runtime::{Backend, Builder};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// The names that scripts use. Some lead to others.
const NAMES: [&str; 10] = [
    "one",
    "two",
    "dir",
    "dir/in",
    "dir/deep/down",
    "link",
    "dangling",
    "fifo",
    "one/below",
    "",
];

/// How a file is opened, a bit for each option.
type Options = u8;

const READ: Options = 1;
const WRITE: Options = 2;
const APPEND: Options = 4;
const TRUNCATE: Options = 8;
const CREATE: Options = 16;
const CREATE_NEW: Options = 32;

#[derive(Clone, Copy, Debug)]
enum Whence {
    Start(u64),
    Current(i64),
    End(i64),
}

#[derive(Clone, Copy, Debug)]
enum Way {
    OwnedFd,
    RawFd,
    StdType,
}

/// A call on an open file.
#[derive(Clone, Debug)]
enum Call {
    Read(usize),
    ReadVectored(Vec<usize>),
    ReadToEnd,
    ReadToString,
    ReadExact(usize),
    ReadAt(usize, u64),
    ReadExactAt(usize, u64),
    Write(usize),
    WriteVectored(Vec<usize>),
    WriteAt(usize, u64),
    WriteAllAt(usize, u64),
    Seek(Whence),
    Rewind,
    SetLen(u64),
    Metadata,
    SetPermissions(u32),
    SetTimes(u64),
    SyncAll,
    SyncData,
    TryLock,
    TryLockShared,
    Unlock,
    Print,
    TryClone,
    Convert(Way),
    DropOldest,
}

/// A call with a path: the index of a name.
#[derive(Clone, Debug)]
enum Named {
    Open(Options),
    OpenNoFollow(Options),
    FileOpen,
    FileCreate,
    FileCreateNew,
    Read,
    ReadToString,
    Write(usize),
    Copy(usize),
    Rename(usize),
    HardLink(usize),
    Symlink(usize),
    ReadLink,
    Canonicalize,
    Metadata,
    SymlinkMetadata,
    Exists,
    SetPermissions(u32),
    RemoveFile,
    RemoveDir,
    RemoveDirAll,
    CreateDir,
    CreateDirAll,
    DirBuilder { recursive: bool, mode: u32 },
    ReadDir,
    Chown,
    Lchown,
}

#[derive(Clone, Debug)]
enum Step {
    /// On the open file with this number, modulo their count.
    On(usize, Call),
    At(usize, Named),
}

/// What a step was seen to do.
type Seen = String;

/// The program, over `$rt`.
macro_rules! player {
    ($name:ident, $rt:ident) => {
        mod $name {
            use std::fmt::Debug;
            use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
            use std::path::{Path, PathBuf};
            use std::time::{Duration, SystemTime};

            use rt::fs::{self, File, FileTimes, OpenOptions, Permissions};
            use rt::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
            use rt::os::unix::fs::{
                DirBuilderExt, DirEntryExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt,
                PermissionsExt,
            };
            use $rt as rt;

            use super::*;

            pub fn play(directory: &Path, script: &[Step]) -> Vec<Seen> {
                let mut player = Player {
                    directory: directory.to_owned(),
                    files: Vec::new(),
                    written: 0,
                };
                script.iter().map(|step| player.step(step)).collect()
            }

            struct Player {
                directory: PathBuf,
                files: Vec<File>,
                /// Bytes that have been written; the next go on from there.
                written: usize,
            }

            impl Player {
                fn step(&mut self, step: &Step) -> Seen {
                    match step {
                        Step::At(name, named) => self.named(NAMES[*name], named),
                        Step::On(file, call) if !self.files.is_empty() => {
                            let file = file % self.files.len();
                            self.call(file, call)
                        }
                        Step::On(..) => "no file".to_owned(),
                    }
                }

                fn path(&self, name: &str) -> PathBuf {
                    self.directory.join(name)
                }

                fn bytes(&mut self, count: usize) -> Vec<u8> {
                    let start = self.written;
                    self.written += count;
                    (start..self.written)
                        .map(|n| b'a' + (n % 26) as u8)
                        .collect()
                }

                fn tell<T: Debug>(&self, result: io::Result<T>) -> Seen {
                    let text = match result {
                        Ok(value) => format!("gives {value:?}"),
                        Err(error) => {
                            format!("{:?} {:?}: {error}", error.kind(), error.raw_os_error())
                        }
                    };
                    text.replace(self.directory.to_str().unwrap(), "")
                }

                fn keep(&mut self, opened: io::Result<File>) -> Seen {
                    match opened {
                        Ok(file) => {
                            self.files.push(file);
                            "opens".to_owned()
                        }
                        Err(error) => self.tell::<()>(Err(error)),
                    }
                }

                fn options(&self, bits: Options) -> OpenOptions {
                    let mut options = OpenOptions::new();
                    options
                        .read(bits & READ != 0)
                        .write(bits & WRITE != 0)
                        .append(bits & APPEND != 0)
                        .truncate(bits & TRUNCATE != 0)
                        .create(bits & CREATE != 0)
                        .create_new(bits & CREATE_NEW != 0)
                        .mode(0o640);
                    options
                }

                fn facts(metadata: fs::Metadata) -> impl Debug {
                    let file_type = metadata.file_type();
                    let length = metadata.is_file().then(|| metadata.len());
                    let kinds = [
                        file_type.is_file(),
                        file_type.is_dir(),
                        file_type.is_symlink(),
                        file_type.is_fifo(),
                        file_type.is_socket(),
                        file_type.is_char_device(),
                        file_type.is_block_device(),
                    ];
                    let mode = metadata.permissions().mode();
                    (length, kinds, mode, metadata.nlink(), metadata.uid())
                }

                fn named(&mut self, name: &str, named: &Named) -> Seen {
                    let path = self.path(name);
                    match named {
                        // A FIFO is opened at both ends, or without waiting.
                        Named::Open(bits) if name == "fifo" => {
                            let mut options = self.options(*bits);
                            options.custom_flags(libc::O_NONBLOCK);
                            let opened = options.open(path);
                            self.keep(opened)
                        }
                        Named::FileOpen | Named::FileCreate | Named::OpenNoFollow(_)
                            if name == "fifo" =>
                        {
                            let mut options = self.options(READ | WRITE);
                            // What others have written may have filled it.
                            let is_fifo = |file: &File| {
                                let metadata = file.metadata();
                                metadata.is_ok_and(|metadata| metadata.file_type().is_fifo())
                            };
                            if self.files.iter().any(is_fifo) {
                                options.custom_flags(libc::O_NONBLOCK);
                            }
                            let opened = options.open(path);
                            // Or a read would wait for ever.
                            let written = opened.and_then(|mut file| {
                                file.write_all(&self.bytes(700))?;
                                Ok(file)
                            });
                            let seen = written.map(drop);
                            self.tell(seen)
                        }
                        // It keeps its name, or std would wait for its other end.
                        Named::Read
                        | Named::ReadToString
                        | Named::Write(_)
                        | Named::Copy(_)
                        | Named::Rename(_)
                        | Named::HardLink(_)
                            if name == "fifo" =>
                        {
                            let facts = fs::metadata(path).map(Self::facts);
                            self.tell(facts)
                        }
                        Named::Copy(to)
                        | Named::Rename(to)
                        | Named::HardLink(to)
                        | Named::Symlink(to)
                            if NAMES[*to] == "fifo" =>
                        {
                            "not with the FIFO".to_owned()
                        }
                        Named::Open(bits) => {
                            let opened = self.options(*bits).open(path);
                            self.keep(opened)
                        }
                        Named::OpenNoFollow(bits) => {
                            let mut options = self.options(*bits);
                            let opened = options.custom_flags(libc::O_NOFOLLOW).open(path);
                            self.keep(opened)
                        }
                        Named::FileOpen => self.keep(File::open(path)),
                        Named::FileCreate => self.keep(File::create(path)),
                        Named::FileCreateNew => self.keep(File::create_new(path)),
                        Named::Read => self.tell(fs::read(path)),
                        Named::ReadToString => self.tell(fs::read_to_string(path)),
                        Named::Write(count) => {
                            let bytes = self.bytes(*count);
                            self.tell(fs::write(path, bytes))
                        }
                        Named::Copy(to) => self.tell(fs::copy(path, self.path(NAMES[*to]))),
                        Named::Rename(to) => self.tell(fs::rename(path, self.path(NAMES[*to]))),
                        Named::HardLink(to) => {
                            self.tell(fs::hard_link(path, self.path(NAMES[*to])))
                        }
                        Named::Symlink(to) => {
                            self.tell(rt::os::unix::fs::symlink(self.path(NAMES[*to]), path))
                        }
                        Named::ReadLink => self.tell(fs::read_link(path)),
                        Named::Canonicalize => self.tell(fs::canonicalize(path)),
                        Named::Metadata => self.tell(fs::metadata(path).map(Self::facts)),
                        Named::SymlinkMetadata => {
                            self.tell(fs::symlink_metadata(path).map(Self::facts))
                        }
                        Named::Exists => self.tell(fs::exists(path)),
                        Named::SetPermissions(mode) => {
                            self.tell(fs::set_permissions(path, Permissions::from_mode(*mode)))
                        }
                        Named::RemoveFile => self.tell(fs::remove_file(path)),
                        // The empty name is the directory of the test.
                        Named::RemoveDir | Named::RemoveDirAll | Named::Chown | Named::Lchown
                            if name.is_empty() =>
                        {
                            "not here".to_owned()
                        }
                        Named::RemoveDir => self.tell(fs::remove_dir(path)),
                        Named::RemoveDirAll => self.tell(fs::remove_dir_all(path)),
                        Named::CreateDir => self.tell(fs::create_dir(path)),
                        Named::CreateDirAll => self.tell(fs::create_dir_all(path)),
                        Named::DirBuilder { recursive, mode } => {
                            let mut builder = fs::DirBuilder::new();
                            builder.recursive(*recursive).mode(*mode);
                            let made = builder.create(path);
                            format!("{builder:?}: {}", self.tell(made))
                        }
                        Named::ReadDir => self.list(&path),
                        Named::Chown => self.tell(rt::os::unix::fs::chown(path, None, None)),
                        Named::Lchown => self.tell(rt::os::unix::fs::lchown(path, None, None)),
                    }
                }

                fn list(&self, path: &Path) -> Seen {
                    let listing = match fs::read_dir(path) {
                        Ok(listing) => listing,
                        Err(error) => return self.tell::<()>(Err(error)),
                    };
                    let print = format!("{listing:?}");
                    let mut entries: Vec<_> = listing
                        .map(|entry| {
                            let entry = entry.unwrap();
                            let metadata = entry.metadata().unwrap();
                            assert_eq!(entry.ino(), metadata.ino());
                            let kind = entry.file_type().unwrap();
                            assert_eq!(kind, metadata.file_type());
                            let facts = format!("{:?}", Self::facts(metadata));
                            (entry.path(), entry.file_name(), format!("{entry:?}"), facts)
                        })
                        .collect();
                    entries.sort();
                    self.tell(Ok((print, entries)))
                }

                fn call(&mut self, number: usize, call: &Call) -> Seen {
                    let bytes = match call {
                        Call::Write(count)
                        | Call::WriteAt(count, _)
                        | Call::WriteAllAt(count, _) => self.bytes(*count),
                        Call::WriteVectored(counts) => self.bytes(counts.iter().sum()),
                        _ => Vec::new(),
                    };
                    let mut file = &self.files[number];
                    let seen = match call {
                        Call::Read(count) => {
                            let mut buffer = vec![b'.'; *count];
                            let read = file.read(&mut buffer);
                            self.tell(read.map(|read| (read, text(&buffer))))
                        }
                        Call::ReadVectored(counts) => {
                            let mut buffers: Vec<_> =
                                counts.iter().map(|count| vec![b'.'; *count]).collect();
                            let mut slices: Vec<_> =
                                buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
                            let read = file.read_vectored(&mut slices);
                            self.tell(read.map(|read| (read, text(&buffers.concat()))))
                        }
                        Call::ReadToEnd => {
                            let mut buffer = b"before".to_vec();
                            let read = file.read_to_end(&mut buffer);
                            self.tell(read.map(|read| (read, text(&buffer))))
                        }
                        Call::ReadToString => {
                            let mut buffer = String::from("before");
                            let read = file.read_to_string(&mut buffer);
                            self.tell(read.map(|read| (read, buffer)))
                        }
                        Call::ReadExact(count) => {
                            let mut buffer = vec![b'.'; *count];
                            let read = file.read_exact(&mut buffer);
                            format!("{} {}", self.tell(read), text(&buffer))
                        }
                        Call::ReadAt(count, offset) => {
                            let mut buffer = vec![b'.'; *count];
                            let read = file.read_at(&mut buffer, *offset);
                            self.tell(read.map(|read| (read, text(&buffer))))
                        }
                        Call::ReadExactAt(count, offset) => {
                            let mut buffer = vec![b'.'; *count];
                            let read = file.read_exact_at(&mut buffer, *offset);
                            format!("{} {}", self.tell(read), text(&buffer))
                        }
                        Call::Write(_) => self.tell(file.write(&bytes)),
                        Call::WriteVectored(counts) => {
                            let mut rest = &bytes[..];
                            let slices: Vec<_> = counts
                                .iter()
                                .map(|count| {
                                    let (slice, behind) = rest.split_at(*count);
                                    rest = behind;
                                    IoSlice::new(slice)
                                })
                                .collect();
                            self.tell(file.write_vectored(&slices))
                        }
                        Call::WriteAt(_, offset) => self.tell(file.write_at(&bytes, *offset)),
                        Call::WriteAllAt(_, offset) => {
                            self.tell(file.write_all_at(&bytes, *offset))
                        }
                        Call::Seek(whence) => self.tell(file.seek(match *whence {
                            Whence::Start(to) => SeekFrom::Start(to),
                            Whence::Current(by) => SeekFrom::Current(by),
                            Whence::End(by) => SeekFrom::End(by),
                        })),
                        Call::Rewind => self.tell(file.rewind()),
                        Call::SetLen(length) => self.tell(file.set_len(*length)),
                        Call::Metadata => self.tell(file.metadata().map(Self::facts)),
                        Call::SetPermissions(mode) => {
                            self.tell(file.set_permissions(Permissions::from_mode(*mode)))
                        }
                        Call::SetTimes(seconds) => {
                            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(*seconds);
                            let times = FileTimes::new().set_accessed(time);
                            let set = file.set_times(times).and(file.set_modified(time));
                            let read = set.and_then(|()| {
                                let metadata = file.metadata()?;
                                Ok((metadata.accessed()?, metadata.modified()?))
                            });
                            self.tell(read)
                        }
                        Call::SyncAll => self.tell(file.sync_all()),
                        Call::SyncData => self.tell(file.sync_data()),
                        Call::TryLock => format!("{:?}", file.try_lock()),
                        Call::TryLockShared => format!("{:?}", file.try_lock_shared()),
                        Call::Unlock => self.tell(file.unlock()),
                        // Numbers of descriptors differ.
                        Call::Print => {
                            let print = format!("{file:?}");
                            let (_, rest) = print.split_once(',').unwrap();
                            self.tell(Ok(rest))
                        }
                        Call::TryClone => {
                            let clone = file.try_clone();
                            return self.keep(clone);
                        }
                        Call::Convert(way) => {
                            let file = self.files.remove(number);
                            let file = match way {
                                Way::OwnedFd => OwnedFd::from(file).into(),
                                Way::StdType => {
                                    #[allow(clippy::useless_conversion)] // Not for both.
                                    std::fs::File::from(file).into()
                                }
                                // SAFETY: `into_raw_fd` hands over the ownership.
                                Way::RawFd => unsafe { File::from_raw_fd(file.into_raw_fd()) },
                            };
                            self.files.insert(number, file);
                            return "converts".to_owned();
                        }
                        Call::DropOldest => {
                            self.files.remove(0);
                            return "closes".to_owned();
                        }
                    };
                    let position = (&self.files[number]).stream_position();
                    format!("{seen}, then at {}", self.tell(position))
                }
            }

            fn text(bytes: &[u8]) -> String {
                String::from_utf8_lossy(bytes).into_owned()
            }
        }
    };
}

player!(over_std, std);
player!(over_greenring, greenring);

/// Plays a script in a directory of its own, on an OS thread of its own.
fn play(script: &[Step], on: Option<Backend>) -> Vec<Seen> {
    let directory = Directory::new();
    std::fs::create_dir(directory.join("dir")).unwrap();
    std::fs::write(directory.join("one"), b"to begin with").unwrap();
    std::fs::write(directory.join("dir/in"), b"not \xff UTF-8").unwrap();
    std::os::unix::fs::symlink("one", directory.join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", directory.join("dangling")).unwrap();
    directory.fifo("fifo");
    let path = directory.path();
    std::thread::scope(|scope| {
        let playing = scope.spawn(|| match on {
            None => over_std::play(path, script),
            Some(backend) => Builder::new()
                .backend(backend)
                .run(|| over_greenring::play(path, script))
                .expect("a hub"),
        });
        playing.join().unwrap()
    })
}

/// Where a backend differs from std.
fn difference(script: &[Step]) -> Option<String> {
    let expected = play(script, None);
    for backend in [Backend::Uring, Backend::Epoll] {
        if !is_available(backend) {
            continue;
        }
        let seen = play(script, Some(backend));
        for (n, step) in script.iter().enumerate() {
            if seen[n] != expected[n] {
                return Some(format!(
                    "step {n}, {step:?}:\n  std    {}\n  {backend} {}",
                    expected[n], seen[n]
                ));
            }
        }
    }
    None
}

/// All agree, and say what is expected where std may surprise.
#[track_caller]
fn same(script: &[Step], says: &[(usize, &str)]) {
    if let Some(difference) = difference(script) {
        panic!("{difference}");
    }
    let seen = play(script, None);
    for (step, says) in says {
        assert!(seen[*step].contains(says), "step {step}: {}", seen[*step]);
    }
}

fn count() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), 1..40_usize, Just(5000), Just(100_000)]
}

fn counts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        prop::collection::vec(0..30_usize, 0..6),
        Just(vec![1; 1030]),
        Just(vec![0, 0, 9]),
        Just(vec![70_000, 0, 70_000]),
    ]
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..60_u64,
        Just(3_000_000),
        Just(i64::MAX as u64),
        Just(u64::MAX),
        Just(1 << 63),
    ]
}

fn whence() -> impl Strategy<Value = Whence> {
    prop_oneof![
        offset().prop_map(Whence::Start),
        (-50..50_i64).prop_map(Whence::Current),
        (-50..50_i64).prop_map(Whence::End),
        Just(Whence::End(i64::MAX)),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    let lengths = prop_oneof![0..60_u64, Just(5_000_000), Just(u64::MAX)];
    let modes = prop_oneof![Just(0o600), Just(0o444), Just(0o777)];
    prop_oneof![
        3 => count().prop_map(Call::Read),
        2 => counts().prop_map(Call::ReadVectored),
        1 => Just(Call::ReadToEnd),
        1 => Just(Call::ReadToString),
        1 => (0..60_usize).prop_map(Call::ReadExact),
        2 => (count(), offset()).prop_map(|(count, at)| Call::ReadAt(count, at)),
        1 => (0..60_usize, offset()).prop_map(|(count, at)| Call::ReadExactAt(count, at)),
        4 => count().prop_map(Call::Write),
        2 => counts().prop_map(Call::WriteVectored),
        2 => (count(), 0..9000_u64).prop_map(|(count, at)| Call::WriteAt(count, at)),
        1 => (0..60_usize, 0..60_u64).prop_map(|(count, at)| Call::WriteAllAt(count, at)),
        3 => whence().prop_map(Call::Seek),
        1 => Just(Call::Rewind),
        1 => lengths.prop_map(Call::SetLen),
        1 => Just(Call::Metadata),
        1 => modes.prop_map(Call::SetPermissions),
        1 => (0..1_000_000_u64).prop_map(Call::SetTimes),
        1 => Just(Call::SyncAll),
        1 => Just(Call::SyncData),
        1 => Just(Call::TryLock),
        1 => Just(Call::TryLockShared),
        1 => Just(Call::Unlock),
        1 => Just(Call::Print),
        2 => Just(Call::TryClone),
        1 => prop_oneof![Just(Way::OwnedFd), Just(Way::RawFd), Just(Way::StdType)]
            .prop_map(Call::Convert),
        1 => Just(Call::DropOldest),
    ]
}

fn named() -> impl Strategy<Value = Named> {
    let name = || 0..NAMES.len();
    let modes = || prop_oneof![Just(0o700_u32), Just(0o555), Just(0o777)];
    prop_oneof![
        6 => (0..64_u8).prop_map(Named::Open),
        1 => (0..64_u8).prop_map(Named::OpenNoFollow),
        2 => Just(Named::FileOpen),
        2 => Just(Named::FileCreate),
        1 => Just(Named::FileCreateNew),
        1 => Just(Named::Read),
        1 => Just(Named::ReadToString),
        1 => count().prop_map(Named::Write),
        1 => name().prop_map(Named::Copy),
        1 => name().prop_map(Named::Rename),
        1 => name().prop_map(Named::HardLink),
        1 => name().prop_map(Named::Symlink),
        1 => Just(Named::ReadLink),
        1 => Just(Named::Canonicalize),
        1 => Just(Named::Metadata),
        1 => Just(Named::SymlinkMetadata),
        1 => Just(Named::Exists),
        1 => modes().prop_map(Named::SetPermissions),
        1 => Just(Named::RemoveFile),
        1 => Just(Named::RemoveDir),
        1 => Just(Named::RemoveDirAll),
        1 => Just(Named::CreateDir),
        1 => Just(Named::CreateDirAll),
        1 => (any::<bool>(), modes())
            .prop_map(|(recursive, mode)| Named::DirBuilder { recursive, mode }),
        2 => Just(Named::ReadDir),
        1 => Just(Named::Chown),
        1 => Just(Named::Lchown),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4_usize, call()).prop_map(|(file, call)| Step::On(file, call)),
        2 => (0..NAMES.len(), named()).prop_map(|(name, named)| Step::At(name, named)),
    ]
}

#[test]
fn random_scripts_give_what_std_gives() {
    let scripts = std::env::var("GREENRING_TEST_SCRIPTS");
    let cases = scripts.map_or(100, |scripts| scripts.parse().expect("a number"));
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let result =
        TestRunner::new(config).run(
            &prop::collection::vec(step(), 1..40),
            |script| match difference(&script) {
                Some(difference) => Err(TestCaseError::fail(difference)),
                None => Ok(()),
            },
        );
    if let Err(error) = result {
        panic!("{error}");
    }
}

use Step::{At, On};

/// The index of a name.
fn at(name: &str, named: Named) -> Step {
    let index = NAMES.iter().position(|known| *known == name);
    At(index.expect("a name of the list"), named)
}

#[test]
fn appends_go_to_the_end_wherever_the_position() {
    let script = [
        at("one", Named::Open(READ | APPEND)),
        On(0, Call::Read(3)),
        On(0, Call::Write(5)),
        On(0, Call::Rewind),
        On(0, Call::Write(5)),
        On(0, Call::WriteAt(5, 2)),
        On(0, Call::WriteVectored(vec![2, 0, 3])),
        On(0, Call::Seek(Whence::End(0))),
        at("one", Named::Read),
    ];
    same(&script, &[(2, "gives 18"), (7, "gives 33")]);
}

#[test]
fn reads_go_on_where_the_last_one_ended() {
    let script = [
        at("one", Named::FileOpen),
        On(0, Call::Read(3)),
        On(0, Call::TryClone),
        On(1, Call::Read(4)),
        On(0, Call::ReadVectored(vec![1, 0, 1])),
        On(0, Call::ReadAt(4, 0)),
        On(1, Call::Read(100)),
        On(0, Call::Read(100)),
        On(0, Call::ReadToEnd),
    ];
    same(&script, &[(1, "to "), (6, "gives 13"), (7, "(0,")]);
}

#[test]
fn a_directory_is_no_file_and_a_file_no_directory() {
    let script = [
        at("dir", Named::FileOpen),
        On(0, Call::Read(3)),
        On(0, Call::ReadToEnd),
        On(0, Call::Metadata),
        at("dir", Named::FileCreate),
        at("dir", Named::Read),
        at("one", Named::ReadDir),
        at("one/below", Named::FileOpen),
        at("dir", Named::RemoveDir),
        at("dir", Named::RemoveFile),
        at("dir", Named::Copy(0)),
        at("one", Named::Copy(2)),
    ];
    same(
        &script,
        &[
            (1, "IsADirectory"),
            (4, "IsADirectory"),
            (5, "IsADirectory"),
            (6, "NotADirectory"),
            (8, "DirectoryNotEmpty"),
        ],
    );
}

#[test]
fn links_lead_where_they_lead() {
    let script = [
        at("dangling", Named::FileOpen),
        at("dangling", Named::Metadata),
        at("dangling", Named::SymlinkMetadata),
        at("dangling", Named::Exists),
        at("dangling", Named::ReadLink),
        at("dangling", Named::Canonicalize),
        at("link", Named::OpenNoFollow(READ)),
        at("link", Named::Write(9)),
        at("one", Named::Read),
        at("link", Named::RemoveFile),
        at("one", Named::Exists),
        at("one", Named::ReadLink),
    ];
    same(
        &script,
        &[
            (0, "NotFound"),
            (3, "false"),
            (10, "true"),
            (11, "InvalidInput"),
        ],
    );
}

#[test]
fn a_file_of_many_gigabytes_has_its_bytes_where_they_were_put() {
    let far = 5_000_000_000;
    let script = [
        at("one", Named::Open(READ | WRITE)),
        On(0, Call::WriteAt(5, far)),
        On(0, Call::Seek(Whence::Start(far - 3))),
        On(0, Call::Read(100)),
        On(0, Call::Write(7)),
        On(0, Call::Seek(Whence::End(-4))),
        On(0, Call::ReadToString),
        On(0, Call::ReadAt(4, 4_294_967_294)),
        On(0, Call::SetLen(3)),
        On(0, Call::Read(1)),
        On(0, Call::Seek(Whence::Current(i64::MIN))),
        On(0, Call::ReadAt(1, u64::MAX)),
        On(0, Call::WriteAt(1, u64::MAX)),
    ];
    same(
        &script,
        &[(3, "(8,"), (10, "InvalidInput"), (11, "InvalidInput")],
    );
}

#[test]
fn what_is_no_text_is_not_appended() {
    let script = [
        at("dir/in", Named::FileOpen),
        On(0, Call::ReadToString),
        On(0, Call::Rewind),
        On(0, Call::ReadToEnd),
        at("dir/in", Named::ReadToString),
    ];
    same(&script, &[(1, "InvalidData"), (4, "InvalidData")]);
}

#[test]
fn a_fifo_in_nonblocking_mode_does_not_wait() {
    let script = [
        at("fifo", Named::Open(WRITE)),
        at("fifo", Named::Open(READ)),
        On(0, Call::Read(5)),
        at("fifo", Named::Open(WRITE)),
        On(0, Call::Read(5)),
        On(1, Call::Write(100_000)),
        On(1, Call::Write(1)),
        On(0, Call::Read(5)),
        On(0, Call::Seek(Whence::Current(1))),
        On(0, Call::ReadAt(1, 0)),
        On(0, Call::DropOldest),
        On(0, Call::Write(5)),
    ];
    same(
        &script,
        &[
            (0, "Some(6)"),
            (2, "(0,"),
            (4, "WouldBlock"),
            (11, "BrokenPipe"),
        ],
    );
}
