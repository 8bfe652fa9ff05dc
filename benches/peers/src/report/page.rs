//! The page: one self-contained HTML file drawn from a report.

use std::io;

use super::Report;

/// Draws the page.
pub fn render(report: &Report) -> io::Result<String> {
    let json = serde_json::to_string_pretty(report).map_err(io::Error::other)?;
    Ok(format!(
        "<!doctype html>\n<title>greenring</title>\n<pre>{json}</pre>\n"
    ))
}
