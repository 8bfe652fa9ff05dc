//! What the pipeline example counts and prints.

use greenring::io;
use greenring::time::{Duration, Instant};

use super::letter::{Class, Stamped};

/// How many letters wait between the stages, and how many may.
pub struct Depths {
    pub express: (usize, usize),
    pub standard: (usize, usize),
    pub sorted: (usize, usize),
    pub stamped: (usize, usize),
}

/// The table that grows while the pipeline runs.
pub struct Table {
    start: Instant,
    /// When the last row was printed, and what had been delivered by then.
    last: (Instant, u64),
}

impl Table {
    pub fn begin() -> Table {
        let start = Instant::now();
        println!("   time   express  standard    sorted   stamped   letters/s");
        Table {
            start,
            last: (start, 0),
        }
    }

    pub fn row(&mut self, depths: &Depths, totals: &Totals) {
        let (now, count) = (Instant::now(), totals.count_all());
        let (then, before) = std::mem::replace(&mut self.last, (now, count));
        let rate = (count - before) as f64 / (now - then).as_secs_f64();
        print!("{:>5.1} s", (now - self.start).as_secs_f64());
        for (depth, room) in [
            depths.express,
            depths.standard,
            depths.sorted,
            depths.stamped,
        ] {
            print!("{:>10}", format!("{depth}/{room}"));
        }
        println!("{rate:>12.0}");
    }
}

/// What was delivered of one class.
#[derive(Default)]
struct Total {
    letters: u64,
    age: Duration,
    greatest_age: Duration,
}

/// What was delivered.
#[derive(Default)]
pub struct Totals {
    express: Total,
    standard: Total,
    invalid: u64,
}

impl Totals {
    pub fn count(&mut self, stamped: &Stamped) {
        let total = match stamped.class() {
            Class::Express => &mut self.express,
            Class::Standard => &mut self.standard,
        };
        let age = stamped.age();
        total.letters += 1;
        total.age += age;
        total.greatest_age = total.greatest_age.max(age);
        self.invalid += u64::from(!stamped.is_valid());
    }

    fn count_all(&self) -> u64 {
        self.express.letters + self.standard.letters
    }

    /// Prints how long letters took, and how many came in all.
    pub fn print(&self, elapsed: Duration) {
        println!("\n           letters   mean time   longest");
        for (name, total) in [("express", &self.express), ("standard", &self.standard)] {
            let mean = total.age.as_secs_f64() / total.letters.max(1) as f64;
            let (mean, longest) = (1e3 * mean, 1e3 * total.greatest_age.as_secs_f64());
            println!(
                "{name:<8} {:>9} {mean:>8.2} ms {longest:>6.1} ms",
                total.letters
            );
        }
        let rate = self.count_all() as f64 / elapsed.as_secs_f64();
        println!("\n{rate:.0} letters/s in {:.1} s", elapsed.as_secs_f64());
    }

    /// Makes sure that everything that was written has arrived.
    ///
    /// # Errors
    ///
    /// It has not, or without a stamp that fits.
    pub fn check(&self, [express, standard]: [u64; 2]) -> io::Result<()> {
        let delivered = [self.express.letters, self.standard.letters];
        if delivered == [express, standard] && self.invalid == 0 {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{express} + {standard} letters were written, {} + {} delivered, {} of them with \
             stamps that do not fit",
            delivered[0], delivered[1], self.invalid
        )))
    }
}
