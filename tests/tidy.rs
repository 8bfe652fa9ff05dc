//! The house rules that a machine can check.
//!
//! The floors are those drawn in `src/lib.rs`: an import goes down or
//! sideways, never up. Imports are found by matching `crate::`, and `super::`
//! between the files of one directory, in what stands before a file's tests;
//! nothing cleverer; the `$crate::` of a macro is none, because it stands where the
//! macro is used. A file never imports what the crate's root re-exports.
//!
//! No circle is allowed, neither between top-level modules nor between the
//! files of one directory. That a file names an item of its parent (`mod.rs`
//! and its children make up one module) is not an import, except for a leaf,
//! which is to be understood by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The floors of `src/lib.rs`. A path stands for all that is below it; the
/// longest that fits counts.
const FLOORS: &[(&str, u32)] = &[
    ("runtime", 5),
    ("inspect", 5),
    ("thread", 4),
    ("net", 4),
    ("fs", 4),
    ("os", 4),
    ("process", 4),
    ("pool", 4),
    ("time", 4),
    ("signal", 4),
    ("io", 4),
    ("fd", 3),
    ("sync", 3),
    ("cancel", 3),
    ("blocking", 3),
    ("block_on", 3),
    ("pauses", 3),
    ("hub", 2),
    ("hub::stack", 1),
    ("hub::arena", 1),
    ("hub::moment", 1),
    ("hub::timers", 1),
    ("hub::run_queue", 1),
    ("hub::overflow", 1),
    ("hub::locals", 1),
    ("hub::valgrind", 1),
    ("backend", 1),
    ("atomic", 0),
];

/// Data structures of the hub, which know nothing of it, at the most each other.
const LEAVES: &[&str] = &[
    "hub::stack",
    "hub::arena",
    "hub::moment",
    "hub::timers",
    "hub::run_queue",
    "hub::overflow",
    "hub::locals",
    "hub::valgrind",
];

/// Where `unsafe` may be written, and what for.
const UNSAFE: &[(&str, &str)] = &[
    (
        "hub/mod.rs",
        "passes the contract of spawn on; installs the overflow handler",
    ),
    ("hub/current.rs", "follows the pointer to the current hub"),
    (
        "hub/extras.rs",
        "follows the chain of time limits on the caller's frames",
    ),
    (
        "hub/fork.rs",
        "maps the page that the kernel wipes in children",
    ),
    (
        "hub/green_thread.rs",
        "passes the contract of the stack switch on",
    ),
    ("hub/running.rs", "resumes and suspends coroutines"),
    ("hub/switch/x86_64.rs", "exchanges stack pointers"),
    (
        "hub/switch/corosensei.rs",
        "resumes and suspends coroutines by pointer",
    ),
    ("hub/switch/tests.rs", "drives coroutines without a hub"),
    ("hub/valgrind.rs", "asks valgrind by instructions"),
    (
        "hub/perform.rs",
        "lends operations to the kernel under the landlord rule",
    ),
    (
        "hub/overflow.rs",
        "signal handlers and the stack they run on",
    ),
    ("hub/stack.rs", "guards memory and returns it"),
    ("hub/arena.rs", "maps, guards and returns memory"),
    (
        "hub/table.rs",
        "finds blocks without asking twice whether they are there",
    ),
    (
        "backend/ancillary.rs",
        "walks what the kernel wrote beside a message",
    ),
    (
        "backend/buffers.rs",
        "maps buffers and shares their ring with the kernel",
    ),
    ("hub/source.rs", "submits operations that lend nothing"),
    (
        "backend/entry.rs",
        "sets a field of an entry that its crate keeps to itself",
    ),
    (
        "backend/uring.rs",
        "writes ring entries that lend memory to the kernel",
    ),
    (
        "backend/epoll.rs",
        "keeps operations that lend memory until they are ready",
    ),
    (
        "backend/epoll/tests.rs",
        "keeps what operations lend in place; reuses descriptor numbers",
    ),
    ("backend/syscall.rs", "system calls on lent memory"),
    (
        "backend/syscall/tests.rs",
        "takes descriptors over; asks for their flags",
    ),
    (
        "backend/tests.rs",
        "submits operations; keeps what they lend in place",
    ),
    (
        "thread/packet.rs",
        "hands a result over between the body and its handle",
    ),
    (
        "thread/join_handle.rs",
        "knows the type of the record that it holds",
    ),
    (
        "hub/record.rs",
        "owns records by pointer, which count their holders themselves",
    ),
    (
        "thread/scope.rs",
        "spawns closures that borrow, and sees them off",
    ),
    ("thread/builder.rs", "gives the hub a body that may borrow"),
    (
        "blocking.rs",
        "gives the pool closures that borrow, and sees them off",
    ),
    ("sync/mutex.rs", "lends the value to who holds the permit"),
    ("sync/rwlock.rs", "lends the value to who holds permits"),
    (
        "fs/file.rs",
        "FromRawFd is an unsafe trait function; asks statx(2) for a length",
    ),
    ("fd/splice.rs", "asks what becomes of a signal"),
    ("fd/descriptor.rs", "FromRawFd is an unsafe trait function"),
    (
        "fd/standard.rs",
        "names descriptors by number; registers a function in C",
    ),
    (
        "io/copy.rs",
        "looks at a value under the type that it has been found to have",
    ),
    (
        "io/reentrant.rs",
        "shares what only the lock's holder touches",
    ),
    (
        "net/server/inherited.rs",
        "takes over descriptors that the process was started with",
    ),
    ("os/unix/process.rs", "pre_exec is an unsafe trait function"),
    (
        "process/child.rs",
        "makes a system call that has no wrapper; takes its descriptor over",
    ),
    (
        "signal/handler.rs",
        "installs a signal handler and passes signals on",
    ),
];

/// The only files that know the crate which switches stacks where we do not.
const SWITCHES_STACKS: &[&str] = &[
    "hub/switch/mod.rs",
    "hub/switch/corosensei.rs",
    "hub/switch/tests.rs",
    "hub/valgrind.rs",
];

/// Lines that a file may have, its tests included.
const LONGEST: usize = 650;

/// Files that may be longer, and why.
const LONGER: &[(&str, &str)] = &[
    (
        "net/tcp.rs",
        "every method of std's TcpStream; two thirds are docs with examples",
    ),
    (
        "net/udp.rs",
        "every method of std's UdpSocket; four fifths are docs with examples",
    ),
    ("hub/stack.rs", "half of it is tests against a naive model"),
];

/// Texts that must not stand anywhere in the sources.
const BANNED: &[&str] = &[
    "allow(dead_code)",
    "TODO",
    "FIXME",
    "todo!",
    "unimplemented!",
    "dbg!",
    "mod util",
];

/// A file under `src`: its path from there, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The module path, `hub::stack`; empty for the root.
    fn module(&self) -> String {
        let path = self.path.trim_end_matches(".rs");
        let path = path.strip_suffix("/mod").unwrap_or(path);
        if path == "lib" {
            String::new()
        } else {
            path.replace('/', "::")
        }
    }

    fn is_parent(&self) -> bool {
        self.path.ends_with("/mod.rs")
    }

    /// What stands before the tests, without comments.
    fn code(&self) -> String {
        let code = self
            .text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or("");
        let lines = code.lines().map(|line| match line.find("//") {
            Some(comment) => &line[..comment],
            None => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The paths that stand behind `prefix`: of a list in braces, each.
    fn paths_behind(&self, prefix: &str) -> Vec<String> {
        let code = self.code();
        let mut paths = Vec::new();
        for (at, _) in code.match_indices(prefix) {
            // `$crate::` in a macro stands where the macro is used.
            if code[..at]
                .ends_with(|before: char| before.is_alphanumeric() || ":_$".contains(before))
            {
                continue;
            }
            expand(&code[at + prefix.len()..], "", &mut paths);
        }
        paths
    }

    /// The modules of `tree` that the file imports.
    fn imports(&self, tree: &[Source]) -> BTreeSet<String> {
        let modules: BTreeSet<String> = tree.iter().map(Source::module).collect();
        let longest = |path: String| {
            let mut path = path.as_str();
            while !modules.contains(path) {
                path = path.rsplit_once("::").map_or("", |(parent, _)| parent);
            }
            path.to_owned()
        };
        let mut imports = BTreeSet::new();
        imports.extend(self.paths_behind("crate::").into_iter().map(longest));
        let module = self.module();
        if let Some((parent, _)) = module.rsplit_once("::") {
            let named = self.paths_behind("super::").into_iter();
            imports.extend(named.map(|path| longest(format!("{parent}::{path}"))));
        }
        imports.remove(&module);
        imports
    }
}

/// Reads one path or one list in braces from the beginning of `text`.
fn expand(text: &str, before: &str, paths: &mut Vec<String>) {
    let text = text.trim_start();
    if let Some(list) = text.strip_prefix('{') {
        let mut depth = 0;
        let mut start = 0;
        for (at, sign) in list.char_indices() {
            match sign {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    let item = list[start..at].trim();
                    if !item.is_empty() {
                        expand(item, before, paths);
                    }
                    start = at + 1;
                    if sign == '}' {
                        return;
                    }
                }
                _ => {}
            }
        }
        return;
    }
    let end = text
        .find(|sign: char| !(sign.is_alphanumeric() || sign == '_'))
        .unwrap_or(text.len());
    let path = match &text[..end] {
        "self" => before.trim_end_matches("::").to_owned(),
        name => format!("{before}{name}"),
    };
    match text[end..].strip_prefix("::") {
        Some(rest) => expand(rest, &format!("{path}::"), paths),
        None => paths.push(path),
    }
}

fn floor(module: &str) -> Option<u32> {
    let fits = |floor: &str| {
        module
            .strip_prefix(floor)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    FLOORS
        .iter()
        .filter(|(path, _)| fits(path))
        .max_by_key(|(path, _)| path.len())
        .map(|(_, floor)| *floor)
}

/// Everything that is wrong with the tree.
fn faults(tree: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut between_modules = BTreeMap::new();
    let mut between_files = BTreeMap::new();
    for source in tree {
        let module = source.module();
        let path = &source.path;
        if module.is_empty() {
            continue;
        }
        let Some(own_floor) = floor(&module) else {
            faults.push(format!("{path}: stands on no floor"));
            continue;
        };
        let top = module.split("::").next().unwrap_or("").to_owned();
        for import in source.imports(tree) {
            let its_top = import.split("::").next().unwrap_or("").to_owned();
            if its_top != top {
                let edges: &mut BTreeSet<String> = between_modules.entry(top.clone()).or_default();
                edges.insert(its_top.clone());
            }
            let names_its_parent = module.rsplit_once("::").is_some_and(|(up, _)| up == import);
            if LEAVES.contains(&module.as_str()) && !LEAVES.contains(&import.as_str()) {
                faults.push(format!("{path}: a leaf imports {import}"));
                continue;
            }
            if names_its_parent || (source.is_parent() && import.starts_with(&module)) {
                continue;
            }
            if floor(&import).is_none_or(|floor| floor > own_floor) {
                let import = if import.is_empty() {
                    "the crate's root"
                } else {
                    &import
                };
                faults.push(format!("{path}: an import climbs to {import}"));
            }
            if its_top == top {
                let edges: &mut BTreeSet<String> = between_files.entry(module.clone()).or_default();
                edges.insert(import);
            }
        }
    }
    for edges in [between_modules, between_files] {
        if let Some(circle) = circle(&edges) {
            faults.push(format!("imports go in a circle: {}", circle.join(" -> ")));
        }
    }
    for source in tree {
        text_faults(source, &mut faults);
    }
    faults
}

/// A circle in a graph, if there is one.
fn circle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk(
        node: &str,
        edges: &BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> bool {
        if let Some(start) = path.iter().position(|earlier| earlier == node) {
            path.drain(..start);
            path.push(node.to_owned());
            return true;
        }
        if done.contains(node) {
            return false;
        }
        path.push(node.to_owned());
        for next in edges.get(node).into_iter().flatten() {
            if walk(next, edges, path, done) {
                return true;
            }
        }
        path.pop();
        done.insert(node.to_owned());
        false
    }
    let mut done = BTreeSet::new();
    edges.keys().find_map(|node| {
        let mut path = Vec::new();
        walk(node, edges, &mut path, &mut done).then_some(path)
    })
}

/// Whether `word` stands in `code` as a word of its own.
fn has_word(code: &str, word: &str) -> bool {
    let is_name = |sign: char| sign.is_alphanumeric() || sign == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(is_name) && !code[at + word.len()..].starts_with(is_name)
    })
}

fn text_faults(source: &Source, faults: &mut Vec<String>) {
    let Source { path, text } = source;
    let code = source.code();
    if !text.starts_with("//! ") {
        faults.push(format!("{path}: does not begin with its doc"));
    }
    for banned in BANNED {
        if text.contains(banned) {
            faults.push(format!("{path}: contains {banned}"));
        }
    }
    if has_word(&code, "println!") || has_word(&code, "print!") {
        faults.push(format!("{path}: prints to standard output"));
    }
    let lines = text.lines().count();
    if lines > LONGEST && !LONGER.iter().any(|(longer, _)| longer == path) {
        faults.push(format!("{path}: has {lines} lines, more than {LONGEST}"));
    }
    if has_word(&code, "unsafe") && !UNSAFE.iter().any(|(allowed, _)| allowed == path) {
        faults.push(format!("{path}: contains unsafe"));
    }
    if has_word(&code, "corosensei") && !SWITCHES_STACKS.contains(&path.as_str()) {
        faults.push(format!("{path}: names corosensei"));
    }
}

/// Allowances that nothing needs any more.
fn stale_allowances(tree: &[Source]) -> Vec<String> {
    let find = |path: &str| tree.iter().find(|source| source.path == path);
    let mut stale = Vec::new();
    for (path, _) in UNSAFE {
        if !find(path).is_some_and(|source| has_word(&source.code(), "unsafe")) {
            stale.push(format!("{path} needs no unsafe"));
        }
    }
    for (path, _) in LONGER {
        if find(path).is_none_or(|source| source.text.lines().count() <= LONGEST) {
            stale.push(format!("{path} is not long"));
        }
    }
    stale
}

fn read(directory: &Path, from: &Path, tree: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            read(&path, from, tree);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(from).expect("a path below");
            tree.push(Source {
                path: relative.to_str().expect("a path in UTF-8").to_owned(),
                text: fs::read_to_string(&path).expect("a readable file"),
            });
        }
    }
}

fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut tree = Vec::new();
    read(&src, &src, &mut tree);
    assert!(tree.len() > 20, "the sources were not found");
    tree
}

#[test]
fn the_house_is_tidy() {
    let tree = sources();
    let mut faults = faults(&tree);
    faults.extend(stale_allowances(&tree));
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

// ----- the checker itself ---------------------------------------------------

/// The faults of a small made-up tree.
fn faults_of(files: &[(&str, &str)]) -> Vec<String> {
    let tree: Vec<Source> = files
        .iter()
        .map(|(path, code)| Source {
            path: (*path).to_owned(),
            text: format!("//! A doc.\n{code}\n"),
        })
        .collect();
    faults(&tree)
}

#[track_caller]
fn assert_fault(files: &[(&str, &str)], expected: &str) {
    let faults = faults_of(files);
    let found = faults.iter().any(|fault| fault.contains(expected));
    assert!(
        found && faults.len() == 1,
        "{expected:?} is to be found: {faults:?}"
    );
}

#[test]
fn a_clean_tree_has_no_faults() {
    let faults = faults_of(&[
        ("lib.rs", "mod hub; mod backend; pub mod net;"),
        (
            "net/mod.rs",
            "mod tcp; use tcp::Stream; use crate::fd::socket::Fd;",
        ),
        (
            "net/tcp.rs",
            "use super::Thing; use crate::{hub::{self, park}, fd::socket};",
        ),
        ("fd/socket.rs", "use crate::hub;"),
        (
            "hub/mod.rs",
            "mod stack; mod table; use stack::Stack; use crate::backend::Key;",
        ),
        ("hub/valgrind.rs", "use corosensei::stack;"),
        (
            "hub/table.rs",
            "use super::green_thread::A; use super::Hub;",
        ),
        ("hub/green_thread.rs", "use super::Wait; unsafe {}"),
        (
            "backend/mod.rs",
            "// unsafe is a word here, as is crate::net",
        ),
    ]);
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn a_climbing_import_is_found() {
    let net = ("net/tcp.rs", "");
    let climbs = "backend/mod.rs: an import climbs to net::tcp";
    assert_fault(
        &[net, ("backend/mod.rs", "use crate::net::tcp::A;")],
        climbs,
    );
    assert_fault(
        &[net, ("backend/mod.rs", "use crate::{net::{tcp::A}};")],
        climbs,
    );
    assert_fault(
        &[net, ("backend/mod.rs", "fn f() { crate::net::tcp::f() }")],
        climbs,
    );
    assert_fault(
        &[
            ("hub/mod.rs", ""),
            ("backend/uring.rs", "use crate::hub::{Hub, park};"),
        ],
        "backend/uring.rs: an import climbs to hub",
    );
    assert_fault(
        &[("lib.rs", ""), ("cancel.rs", "use crate::spawn;")],
        "cancel.rs: an import climbs to the crate's root",
    );
}

#[test]
fn a_leaf_that_imports_is_found() {
    assert_fault(
        &[("hub/mod.rs", ""), ("hub/timers.rs", "use super::Hub;")],
        "hub/timers.rs: a leaf imports hub",
    );
    assert_fault(
        &[
            ("hub/inbox.rs", ""),
            ("hub/timers.rs", "use super::inbox::Mail;"),
        ],
        "hub/timers.rs: a leaf imports hub::inbox",
    );
    assert_fault(
        &[
            ("hub/stack.rs", "use super::arena::Arena;"),
            ("hub/arena.rs", "use super::stack::Stack;"),
        ],
        "imports go in a circle: hub::arena -> hub::stack -> hub::arena",
    );
}

#[test]
fn circles_are_found() {
    assert_fault(
        &[
            ("net/mod.rs", "use crate::time::A;"),
            ("time/mod.rs", "use crate::os::B;"),
            ("os/mod.rs", "use crate::net::C;"),
        ],
        "imports go in a circle: net -> time -> os -> net",
    );
    assert_fault(
        &[
            ("net/tcp.rs", "use super::udp::A;"),
            ("net/udp.rs", "use super::tcp::B;"),
        ],
        "imports go in a circle: net::tcp -> net::udp -> net::tcp",
    );
    assert_fault(
        &[
            ("hub/inbox.rs", "use super::park::A;"),
            ("hub/park.rs", "use super::inbox::B;"),
        ],
        "imports go in a circle: hub::inbox -> hub::park -> hub::inbox",
    );
}

#[test]
fn unsafe_outside_the_list_is_found() {
    assert_fault(&[("net/address.rs", "unsafe fn f() {}")], "contains unsafe");
    assert_fault(
        &[(
            "fd/socket.rs",
            "#[cfg(test)]\nmod other { unsafe fn f() {} }",
        )],
        "unsafe",
    );
}

#[test]
fn untidy_texts_are_found() {
    assert_fault(&[("fd/socket.rs", "// TODO: later")], "contains TODO");
    assert_fault(
        &[("fd/socket.rs", "#![allow(dead_code)]")],
        "contains allow(dead_code)",
    );
    assert_fault(&[("fd/socket.rs", "fn f() { println!() }")], "prints");
    assert_fault(
        &[("fd/socket.rs", "use corosensei::Coroutine;")],
        "names corosensei",
    );
    assert_fault(
        &[("fd/socket.rs", &"\n".repeat(LONGEST))],
        "lines, more than",
    );
    assert_fault(&[("attic/mod.rs", "")], "stands on no floor");
    let undocumented = Source {
        path: "fd/socket.rs".to_owned(),
        text: "use std::io;\n".to_owned(),
    };
    assert_eq!(
        faults(&[undocumented]),
        ["fd/socket.rs: does not begin with its doc"]
    );
    assert!(faults_of(&[("fd/socket.rs", "fn f() { eprintln!() }")]).is_empty());
}
