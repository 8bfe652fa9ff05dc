//! The macros that print, under std's names.

/// Prints to standard output, as [`std::print!`], parking where that blocks.
///
/// Output is buffered by lines: [`flush`](std::io::Write::flush) it if what is
/// printed does not end with one. It goes through [`io::stdout`], and the test
/// harness does not capture it.
///
/// [`io::stdout`]: crate::io::stdout
///
/// # Panics
///
/// Standard output cannot be written to (except that it is closed).
///
/// # Examples
///
/// ```
/// use greenring::io::{self, Write};
/// use greenring::print;
///
/// print!("Name: ");
/// io::stdout().flush()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => {{
        $crate::io::_print(::std::format_args!($($argument)*));
    }};
}

/// Prints a line to standard output, as [`std::println!`], parking where that
/// blocks.
///
/// See [`print!`](crate::print!).
///
/// # Panics
///
/// As [`print!`](crate::print!).
///
/// # Examples
///
/// ```
/// use greenring::println;
///
/// let size = 3;
/// println!("{size} of {}", 4);
/// println!();
/// ```
#[macro_export]
macro_rules! println {
    () => {
        $crate::io::_print(::std::format_args!("\n"))
    };
    ($($argument:tt)*) => {{
        $crate::io::_print(::std::format_args!("{}\n", ::std::format_args!($($argument)*)));
    }};
}

/// Prints to standard error, as [`std::eprint!`], parking where that blocks.
///
/// # Panics
///
/// Standard error cannot be written to (except that it is closed).
///
/// # Examples
///
/// ```
/// use greenring::eprint;
///
/// eprint!("half of ");
/// eprint!("a line\n");
/// ```
#[macro_export]
macro_rules! eprint {
    ($($argument:tt)*) => {{
        $crate::io::_eprint(::std::format_args!($($argument)*));
    }};
}

/// Prints a line to standard error, as [`std::eprintln!`], parking where that
/// blocks.
///
/// # Panics
///
/// As [`eprint!`](crate::eprint!).
///
/// # Examples
///
/// ```
/// use greenring::eprintln;
///
/// eprintln!("{}: {:?}", "warning", [1, 2]);
/// ```
#[macro_export]
macro_rules! eprintln {
    () => {
        $crate::io::_eprint(::std::format_args!("\n"))
    };
    ($($argument:tt)*) => {{
        $crate::io::_eprint(::std::format_args!("{}\n", ::std::format_args!($($argument)*)));
    }};
}
