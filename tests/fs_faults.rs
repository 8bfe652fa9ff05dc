//! Files on disks that are full, read-only or not ours, and processes that have
//! no descriptors left: errors and partial counts are std's.
//!
//! What needs a file system of its own is mounted in a mount namespace of the
//! test's process; where that is forbidden, the test says so.

mod common;

use std::ffi::CString;
use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::path::Path;

use common::files::Directory;
use greenring::fs::{self, File};
use greenring::io::{self, ErrorKind, Seek, Write};
use greenring::os::unix::fs::{FileExt, symlink};
use greenring::thread;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A result that can be compared.
fn told<T: Debug>(result: io::Result<T>) -> String {
    format!(
        "{:?}",
        result.map_err(|error| (error.kind(), error.raw_os_error()))
    )
}

/// Mounts a file system of 1 MiB that only this process sees, or says why not.
fn mount_tmpfs(path: &Path) -> bool {
    // SAFETY: takes a plain value.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        println!("skipped: unshare(2): {}", io::Error::last_os_error());
        return false;
    }
    mount("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE)
        && mount("tmpfs", path, "size=1m", 0)
}

fn mount(kind: &str, path: &Path, options: &str, flags: libc::c_ulong) -> bool {
    let text = |text: &str| CString::new(text).unwrap();
    let (kind, path, options) = (text(kind), text(path.to_str().unwrap()), text(options));
    // SAFETY: strings that outlive the call.
    let result = unsafe {
        let options = options.as_ptr().cast();
        libc::mount(kind.as_ptr(), path.as_ptr(), kind.as_ptr(), flags, options)
    };
    if result != 0 {
        println!("skipped: mount(2): {}", io::Error::last_os_error());
    }
    result == 0
}

/// Writes parts until three in a row were not taken whole; what each call gave.
fn fill(mut file: impl Write + Seek, part: usize) -> Vec<String> {
    let bytes = vec![b'x'; part];
    let (mut seen, mut ended) = (Vec::new(), 0);
    while ended < 3 {
        let written = file.write(&bytes);
        ended = if matches!(written, Ok(count) if count == part) {
            0
        } else {
            ended + 1
        };
        seen.push(format!(
            "{} at {}",
            told(written),
            told(file.stream_position())
        ));
    }
    seen
}

both_backends_alone! {
    fn a_full_disk_takes_what_it_has_room_for() {
        let directory = Directory::new();
        if !mount_tmpfs(directory.path()) {
            return;
        }
        let path = directory.join("file");
        for part in [1000, 100_000, 3 << 20] {
            let std = fill(std::fs::File::create(&path).unwrap(), part);
            let ours = fill(File::create(&path).unwrap(), part);
            assert_eq!(ours, std);
            fs::write(&path, "").unwrap();
            let mut options = File::options();
            let appended = fill(options.append(true).open(&path).unwrap(), part);
            assert_eq!(appended, std);
            assert!(ours.last().unwrap().contains("StorageFull"), "{ours:?}");
            // There is room again.
            File::create(&path).unwrap().write_all(b"x").unwrap();
        }
        let big = vec![b'x'; 2 << 20];
        assert_eq!(fs::write(&path, &big).unwrap_err().kind(), ErrorKind::StorageFull);
        let outside = Directory::below(Path::new("/dev/shm"));
        let source = outside.join("big");
        fs::write(&source, &big).unwrap();
        let error = fs::copy(&source, &path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        // A hole needs no room.
        File::create(&path).unwrap().set_len(1 << 30).unwrap();
    }

    fn a_read_only_disk_changes_nothing() {
        let directory = Directory::new();
        if !mount_tmpfs(directory.path()) {
            return;
        }
        let (file, new) = (directory.join("file"), directory.join("new"));
        fs::write(&file, "kept").unwrap();
        if !mount("tmpfs", directory.path(), "size=1m", libc::MS_REMOUNT | libc::MS_RDONLY) {
            return;
        }
        macro_rules! outcomes {
            ($fs:path) => {{
                use $fs as fs;
                [
                    told(fs::File::create(&file).map(drop)),
                    told(fs::File::create_new(&new).map(drop)),
                    told(fs::OpenOptions::new().append(true).open(&file).map(drop)),
                    told(fs::write(&file, "x")),
                    told(fs::remove_file(&file)),
                    told(fs::rename(&file, &new)),
                    told(fs::create_dir(&new)),
                    told(fs::hard_link(&file, &new)),
                    told(fs::set_permissions(&file, fs::metadata("/").unwrap().permissions())),
                    told(fs::read(&file)),
                ]
            }};
        }
        let ours = outcomes!(greenring::fs);
        assert_eq!(ours, outcomes!(std::fs));
        assert!(ours[..9].iter().all(|told| told.contains("ReadOnlyFilesystem")), "{ours:?}");
    }

    fn a_limit_of_length_cuts_writes_short() {
        // SAFETY: ignoring a signal runs no code.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let directory = Directory::new();
        let path = directory.join("file");
        setrlimit(Resource::RLIMIT_FSIZE, 150_000, 150_000).unwrap();
        for part in [1000, 100_000, 3 << 20] {
            let std = fill(std::fs::File::create(&path).unwrap(), part);
            let ours = fill(File::create(&path).unwrap(), part);
            assert_eq!(ours, std);
            fs::write(&path, "").unwrap();
            let mut options = File::options();
            let appended = fill(options.append(true).open(&path).unwrap(), part);
            assert_eq!(appended, std);
            assert!(ours.last().unwrap().contains("FileTooLarge"), "{ours:?}");
        }
        let file = File::create(&path).unwrap();
        let told_of = |offset| told(file.write_at(b"ten bytes!", offset));
        assert_eq!(told_of(149_995), "Ok(5)");
        assert!(told_of(150_000).contains("FileTooLarge"));
        assert_eq!(file.set_len(150_001).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(file.metadata().unwrap().len(), 150_000);
    }

    fn who_may_not_is_told_so() {
        const NOBODY: libc::uid_t = 65534;
        /// The rights of nobody, until the end.
        struct Nobody;
        impl Drop for Nobody {
            fn drop(&mut self) {
                // SAFETY: takes a plain value.
                unsafe { libc::seteuid(0) };
            }
        }
        let directory = Directory::new();
        let (file, closed) = (directory.join("file"), directory.join("closed"));
        fs::write(&file, "secret").unwrap();
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("within"), "secret").unwrap();
        let mode = |mode| <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
        fs::set_permissions(&file, mode(0o000)).unwrap();
        fs::set_permissions(&closed, mode(0o000)).unwrap();
        // SAFETY: takes plain values. glibc does it on all OS threads.
        if unsafe { libc::geteuid() } == 0 {
            fs::set_permissions(directory.path(), mode(0o755)).unwrap();
            // SAFETY: as above.
            assert_eq!(unsafe { libc::seteuid(NOBODY) }, 0);
        }
        let _nobody = Nobody;
        macro_rules! outcomes {
            ($rt:ident) => {{
                use $rt::fs;
                [
                    told(fs::File::open(&file).map(drop)),
                    told(fs::File::create(&file).map(drop)),
                    told(fs::read(&file)),
                    told(fs::write(&file, "x")),
                    told(fs::copy(&file, directory.join("copy"))),
                    told(fs::read_dir(&closed).map(drop)),
                    told(fs::metadata(closed.join("within")).map(drop)),
                    told(fs::exists(closed.join("within"))),
                    told(fs::remove_file(closed.join("within"))),
                    told(fs::canonicalize(closed.join("within"))),
                    told(fs::create_dir(closed.join("new"))),
                    told($rt::os::unix::fs::chown("/", Some(NOBODY), None)),
                    told($rt::os::unix::fs::chroot("/")),
                ]
            }};
        }
        let ours = outcomes!(greenring);
        assert_eq!(ours, outcomes!(std));
        assert!(ours.iter().all(|told| told.contains("PermissionDenied")), "{ours:?}");
    }

    fn without_descriptors_nothing_opens_and_nothing_breaks() {
        let directory = Directory::new();
        let fifo = directory.fifo("fifo");
        // The hub, the offload pool and its OS threads have what they need.
        let mut open = vec![File::open("Cargo.toml").unwrap()];
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let few = common::open_descriptors() as u64 + 8;
        setrlimit(Resource::RLIMIT_NOFILE, few, most).unwrap();
        let error = loop {
            match File::open("Cargo.toml") {
                Ok(file) => open.push(file),
                Err(error) => break error,
            }
        };
        let none_left = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        none_left(error);
        none_left(open[0].try_clone().unwrap_err());
        none_left(fs::read_dir(".").unwrap_err());
        none_left(fs::read("Cargo.toml").unwrap_err());
        none_left(fs::copy("Cargo.toml", directory.join("copy")).unwrap_err());
        none_left(File::open(&fifo).unwrap_err());
        // What needs none goes on.
        assert!(fs::metadata("Cargo.toml").unwrap().is_file());
        assert!(open[0].read_at(&mut [0; 8], 0).unwrap() > 0);
        let waits = thread::spawn(|| {
            loop {
                match File::open("Cargo.toml") {
                    Ok(file) => return file,
                    Err(_) => thread::yield_now(),
                }
            }
        });
        drop(open.pop());
        waits.join().unwrap();
    }

    fn links_in_a_circle_lead_nowhere() {
        let directory = Directory::new();
        let (one, other) = (directory.join("one"), directory.join("other"));
        symlink(&one, &other).unwrap();
        symlink(&other, &one).unwrap();
        let std = told(std::fs::File::open(&one).map(drop));
        assert_eq!(told(File::open(&one).map(drop)), std);
        assert!(std.contains("FilesystemLoop"), "{std}");
        assert_eq!(told(fs::canonicalize(&one)), told(std::fs::canonicalize(&one)));
        let long = "x".repeat(5000);
        assert_eq!(told(fs::read(&long)), told(std::fs::read(&long)));
        assert_eq!(told(fs::read("nul\0")), told(std::fs::read("nul\0")));
    }

    fn a_descriptor_that_was_closed_fails_as_one() {
        let file = std::mem::ManuallyDrop::new(File::open("Cargo.toml").unwrap());
        // SAFETY: nobody uses the number again but to see it fail.
        drop(unsafe {
            use std::os::fd::{AsRawFd, FromRawFd};
            OwnedFd::from_raw_fd(file.as_raw_fd())
        });
        let error = io::Read::read(&mut &*file, &mut [0; 8]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        let error = file.metadata().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }
}
