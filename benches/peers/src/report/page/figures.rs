//! Figures as text: as many digits as they are good for.

/// What stands for a figure that does not exist.
pub const MISSING: &str = "–";

/// A ratio: two decimals.
pub fn ratio(value: f64) -> String {
    format!("{value:.2}")
}

/// A ratio that is judged by a limit of two decimals.
pub fn precise_ratio(value: f64) -> String {
    format!("{value:.3}")
}

/// Microseconds, without the unit: three significant digits, no more.
pub fn microseconds(value: f64) -> String {
    match value.abs() {
        below if below < 0.995 => format!("{value:.3}"),
        below if below < 9.95 => format!("{value:.2}"),
        below if below < 99.5 => format!("{value:.1}"),
        _ => grouped(value),
    }
}

/// Time with its unit: three significant digits.
pub fn time(microseconds: f64) -> String {
    let (value, unit) = with_unit(microseconds);
    match value {
        below if below < 9.95 => format!("{value:.2} {unit}"),
        below if below < 99.5 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// Time at the tick of an axis, where it is a power of ten.
pub fn decade(microseconds: f64) -> String {
    let (value, unit) = with_unit(microseconds);
    if value < 0.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

fn with_unit(microseconds: f64) -> (f64, &'static str) {
    if microseconds < 999.5 {
        (microseconds, "µs")
    } else if microseconds < 999_500.0 {
        (microseconds / 1_000.0, "ms")
    } else {
        (microseconds / 1_000_000.0, "s")
    }
}

/// Bytes with their unit.
pub fn bytes(value: f64) -> String {
    if value.abs() < 1024.0 {
        format!("{value:.0} B")
    } else if value.abs() < 1024.0 * 1024.0 {
        format!("{:.1} KiB", value / 1024.0)
    } else {
        format!("{:.1} MiB", value / (1024.0 * 1024.0))
    }
}

/// A whole number in groups of three digits, a narrow space between them.
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value <= -0.5 { "-" } else { "" });
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// The tick of an axis: no decimals that say nothing.
pub fn short(value: f64) -> String {
    if value.fract().abs() < 0.001 {
        grouped(value)
    } else {
        format!("{value:.1}")
    }
}

/// A figure by its format, or what stands for a missing one.
pub fn or_missing(value: Option<f64>, format: impl Fn(f64) -> String) -> String {
    value
        .filter(|value| value.is_finite())
        .map_or_else(|| MISSING.to_owned(), format)
}
