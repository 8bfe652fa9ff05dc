//! The macro `select!`.

/// Waits for the first of several things and runs the expression of its arm.
///
/// ```text
/// select! {
///     recv(&receiver) -> item => …,      // item: Result<T, RecvError>
///     send(&sender, value) -> sent => …, // sent: Result<(), SendError<T>>
///     wait(&event) => …,
///     join(&handle) => …,                // then handle.join(); also a scoped one
///     timer(duration) => …,
///     default => …,                      // if nothing else is ready
/// }
/// ```
///
/// - Receivers are those of [`sync::channel`](crate::sync::channel),
///   [`mpsc`](crate::sync::mpsc) and [`oneshot`](crate::sync::oneshot), senders
///   those of the first two. A closed channel is ready, with an error.
/// - Arms of any kind, in any order, each as often as wanted, but one `default` at
///   the most. Behind a block no comma is needed. The arms' expressions have one
///   type. (Beyond thirty arms the compiler asks for a higher `recursion_limit`.)
/// - If several are ready, one is chosen at random. What the others wait for is
///   not touched: no item, no place is lost.
/// - The receivers, senders, events, handles and durations are evaluated once, in
///   their order, before anything else. The *value* of a `send` is evaluated only
///   if its arm was chosen, and may be any expression, also one that waits, or
///   leaves the `select!` by `return` or `?`: then nothing is sent.
/// - Until that value is there its place is kept: a slot of the queue or, at a
///   rendezvous, the receiver, which waits for it. If that one gives up meanwhile,
///   the value is sent in the usual way, to whoever receives next.
/// - A `timer` begins anew with each `select!`. For a tick in a loop, give it what
///   is left: `timer(deadline.saturating_duration_since(Instant::now()))`.
/// - With a `default` it never waits. So it does not see a `select!` that could
///   send at a rendezvous, whose value is still to be made.
///
/// An interrupt or the end of the wait by a time limit around it leaves nothing
/// behind. Who was chosen before it came goes on, and is interrupted at its next
/// wait.
///
/// # Panics
///
/// On the root of a hub, if the wait could never end, see [`sync`](crate::sync).
///
/// # Examples
///
/// ```
/// use greenring::sync::{Event, channel};
/// use greenring::{select, thread};
/// use std::time::Duration;
///
/// let (numbers, inbox) = channel::unbounded();
/// let (outbox, squares) = channel::rendezvous();
/// let handle = thread::spawn(move || squares.iter().sum::<u32>());
/// numbers.send(3).unwrap();
/// let stop = Event::new();
/// let mut square = 0;
/// loop {
///     select! {
///         recv(&inbox) -> number => square = number.unwrap() * number.unwrap(),
///         send(&outbox, std::mem::take(&mut square)) -> sent => {
///             sent.unwrap();
///             stop.set();
///         }
///         wait(&stop) => break,
///         timer(Duration::from_secs(60)) => panic!("nothing happens"),
///     }
/// }
/// drop(outbox);
/// # handle.join().unwrap();
/// ```
///
/// An arm that is none is named:
///
/// ```compile_fail
/// greenring::select! {
///     read(&stream) => {} // error: not an arm of `select!`
/// }
/// ```
#[macro_export]
macro_rules! select {
    ($($arms:tt)*) => {
        $crate::__select!(@arms [] [] $($arms)*)
    };
}

/// Collects the arms, each as `{kind variable (source) (completion) (pattern)
/// (body)}`. The variable of each is another one, because each comes from an
/// expansion of its own.
#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    (@arms [] []) => {
        ::core::compile_error!("`select!` needs an arm")
    };
    (@arms [] [($default:expr)]) => {
        $default
    };
    (@arms [$($arms:tt)+] []) => {
        $crate::__select!(@run [$($arms)+] true (::core::unreachable!("an arm was chosen")))
    };
    (@arms [$($arms:tt)+] [$default:tt]) => {
        $crate::__select!(@run [$($arms)+] false $default)
    };

    (@arms $arms:tt $default:tt recv($source:expr $(,)?) -> $result:pat => $($rest:tt)+) => {
        $crate::__select!(
            @body {recv arm ($source) (arm.complete()) ($result)} $arms $default $($rest)+
        )
    };
    (@arms $arms:tt $default:tt
        send($source:expr, $item:expr $(,)?) -> $result:pat => $($rest:tt)+
    ) => {
        $crate::__select!(
            @body {send arm ($source) (arm.complete().send($item)) ($result)}
            $arms $default $($rest)+
        )
    };
    (@arms $arms:tt $default:tt wait($source:expr $(,)?) => $($rest:tt)+) => {
        $crate::__select!(@body {wait arm ($source) (()) (())} $arms $default $($rest)+)
    };
    (@arms $arms:tt $default:tt join($source:expr $(,)?) => $($rest:tt)+) => {
        $crate::__select!(@body {join arm ($source) (()) (())} $arms $default $($rest)+)
    };
    (@arms $arms:tt $default:tt timer($source:expr $(,)?) => $($rest:tt)+) => {
        $crate::__select!(@body {timer arm ($source) (()) (())} $arms $default $($rest)+)
    };
    (@arms $arms:tt [] default => $($rest:tt)+) => {
        $crate::__select!(@default $arms $($rest)+)
    };
    (@arms $arms:tt [$default:tt] default $($rest:tt)*) => {
        ::core::compile_error!("`select!` has more than one `default`")
    };
    (@arms $arms:tt $default:tt , $($rest:tt)*) => {
        ::core::compile_error!("a comma too many between the arms of `select!`")
    };
    (@arms $arms:tt $default:tt recv $($rest:tt)*) => {
        ::core::compile_error!("write `recv(&receiver) -> result => expression`")
    };
    (@arms $arms:tt $default:tt send $($rest:tt)*) => {
        ::core::compile_error!("write `send(&sender, value) -> result => expression`")
    };
    (@arms $arms:tt $default:tt wait $($rest:tt)*) => {
        ::core::compile_error!("write `wait(&event) => expression`")
    };
    (@arms $arms:tt $default:tt join $($rest:tt)*) => {
        ::core::compile_error!("write `join(&handle) => expression`")
    };
    (@arms $arms:tt $default:tt timer $($rest:tt)*) => {
        ::core::compile_error!("write `timer(duration) => expression`")
    };
    (@arms $arms:tt $default:tt default $($rest:tt)*) => {
        ::core::compile_error!("write `default => expression`")
    };
    (@arms $arms:tt $default:tt $unknown:tt $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "`", ::core::stringify!($unknown), "` is not an arm of `select!`: ",
            "they are `recv`, `send`, `wait`, `join`, `timer` and `default`"
        ))
    };

    (@body {$($head:tt)+} [$($arms:tt)*] $default:tt $body:expr, $($rest:tt)*) => {
        $crate::__select!(@arms [$($arms)* {$($head)+ ($body)}] $default $($rest)*)
    };
    (@body {$($head:tt)+} [$($arms:tt)*] $default:tt $body:expr) => {
        $crate::__select!(@arms [$($arms)* {$($head)+ ($body)}] $default)
    };
    (@body {$($head:tt)+} [$($arms:tt)*] $default:tt $body:block $($rest:tt)*) => {
        $crate::__select!(@arms [$($arms)* {$($head)+ ($body)}] $default $($rest)*)
    };
    (@default $arms:tt $body:expr, $($rest:tt)*) => {
        $crate::__select!(@arms $arms [($body)] $($rest)*)
    };
    (@default $arms:tt $body:expr) => {
        $crate::__select!(@arms $arms [($body)])
    };
    (@default $arms:tt $body:block $($rest:tt)*) => {
        $crate::__select!(@arms $arms [($body)] $($rest)*)
    };
    (@body $($rest:tt)*) => {
        ::core::compile_error!("a comma is missing behind the expression of an arm of `select!`")
    };
    (@default $($rest:tt)*) => {
        ::core::compile_error!("a comma is missing behind the expression of `default`")
    };

    (@run [$({$kind:ident $arm:ident ($source:expr) $($rest:tt)*})+] $can_wait:literal ($default:expr)) => {{
        $(let mut $arm = $crate::sync::select::$kind($source);)+
        if $crate::sync::select::run(&mut [$($arm.any()),+], $can_wait) {
            $crate::__select!(@choose $({$kind $arm ($source) $($rest)*})+)
        } else {
            $default
        }
    }};

    (@choose) => {
        ::core::unreachable!("an arm was chosen")
    };
    (@choose
        {$kind:ident $arm:ident $source:tt ($completion:expr) ($result:pat) ($body:expr)}
        $($rest:tt)*
    ) => {
        if $arm.is_chosen() {
            #[allow(unused_parens)] // For alternatives.
            let ($result) = $completion;
            $body
        } else {
            $crate::__select!(@choose $($rest)*)
        }
    };
}
