//! One chart: a line per server, its name on the left, its figure on the right
//! and a bar or points between them. Drawn narrow, so that a phone can show it
//! without shrinking the text to nothing.
//!
//! Text is as wide as the reader's fonts make it, which is not known here. So
//! names, marks and figures have columns of their own, and a text that may be
//! too long for its column is cut.

use std::io;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{IntoLogRange, LogCoord, Ranged};

use super::palette::{BAND, FAINT, HAND_WRITTEN, INK, LIMIT, MUTED, OURS, RUNTIME, Shade};
use super::pen::{
    self, Area, BOLD, LEFT, MIDDLE, RIGHT, RIGHT_BOLD, disc, fill, polygon, stroke, write,
};
use super::sides::Side;

/// The width that charts of the page are drawn for, in pixels.
pub const WIDTH: u32 = 460;

const MARGIN: i32 = 10;
const TITLE: i32 = 36;
const SUBTITLE: i32 = 22;
const LINE: i32 = 23;
const FOOT: i32 = 28;
const VALUES: i32 = 62;
/// The width of a letter of 13 pixels, generously.
const LETTER: f64 = 7.3;

pub struct Chart {
    pub title: String,
    /// What the axis shows, in a few words; empty where that is said elsewhere.
    pub subtitle: String,
    pub axis: Axis,
    pub lines: Vec<Line>,
}

pub struct Line {
    pub server: String,
    pub side: Side,
    /// The figure on the right.
    pub value: String,
    pub mark: Mark,
}

pub enum Mark {
    Bar {
        median: f64,
        lower: f64,
        upper: f64,
    },
    /// p50, p99 and p99.9.
    Points([f64; 3]),
    /// Why there is nothing to draw.
    Missing(String),
}

/// What is drawn along, and how its ticks read.
#[derive(Clone, Copy)]
pub enum Axis {
    /// Bars begin at the limit, 1.00.
    Ratio { low: f64, high: f64 },
    /// Bars begin at zero.
    Linear { high: f64, tick: fn(f64) -> String },
    /// For points; both ends are powers of ten.
    Decades {
        low: f64,
        high: f64,
        tick: fn(f64) -> String,
    },
}

impl Chart {
    /// In pixels.
    pub fn height(&self) -> u32 {
        (self.top() + LINE * self.lines.len() as i32 + FOOT).unsigned_abs()
    }

    /// Where the lines begin.
    fn top(&self) -> i32 {
        let has_subtitle = !self.subtitle.is_empty();
        TITLE + if has_subtitle { SUBTITLE } else { 0 }
    }

    /// The chart alone.
    pub fn svg(&self) -> io::Result<String> {
        pen::draw((WIDTH, self.height()), |area| self.draw(area))
    }

    /// Draws into the upper part of an area.
    pub fn draw(&self, area: &Area) -> io::Result<()> {
        let top = self.top();
        let bottom = top + LINE * self.lines.len() as i32;
        let (left, right) = self.columns(area);
        let scale = Scale::new(self.axis, (left, right));
        write(area, &self.title, (MARGIN, 16), &BOLD.of(16.0, &INK))?;
        self.subtitle(area)?;
        for (index, line) in self.lines.iter().enumerate() {
            if line.side == Side::Greenring {
                let y = top + LINE * index as i32;
                let corner = (right + VALUES, y + LINE - 1);
                fill(area, [(MARGIN - 4, y + 1), corner], &BAND)?;
            }
        }
        for &tick in &scale.ticks {
            let x = scale.pixel(tick);
            stroke(area, [(x, top), (x, bottom)], &FAINT, 1)?;
            let label = self.axis.tick(tick);
            write(area, &label, (x, bottom + 14), &MIDDLE.of(12.0, &MUTED))?;
        }
        if let Axis::Ratio { .. } = self.axis {
            let x = scale.pixel(1.0);
            stroke(area, [(x, top - 4), (x, bottom + 4)], &LIMIT, 2)?;
        }
        for (index, line) in self.lines.iter().enumerate() {
            let middle = top + LINE * index as i32 + LINE / 2;
            line.draw(area, &scale, middle, right)?;
        }
        Ok(())
    }

    /// Where the marks begin and end.
    fn columns(&self, area: &Area) -> (i32, i32) {
        let width = area.dim_in_pixel().0 as i32;
        let letters = self.lines.iter().map(|line| line.server.chars().count());
        let names = LETTER * letters.max().unwrap_or(0) as f64 + 14.0;
        let names = (names as i32).min(width * 2 / 5);
        (MARGIN + names, width - MARGIN - VALUES)
    }

    /// Points are explained by themselves.
    fn subtitle(&self, area: &Area) -> io::Result<()> {
        let style = LEFT.of(12.0, &MUTED);
        let Axis::Decades { .. } = self.axis else {
            return write(area, &self.subtitle, (MARGIN, 38), &style);
        };
        let mut x = MARGIN + 4;
        for (index, name) in ["p50", "p99", "p99.9"].into_iter().enumerate() {
            point(area, index, (x, 38), &MUTED)?;
            write(area, name, (x + 10, 38), &style)?;
            x += 56;
        }
        write(area, &self.subtitle, (x, 38), &style)
    }
}

impl Line {
    fn draw(&self, area: &Area, scale: &Scale, middle: i32, right: i32) -> io::Result<()> {
        let is_ours = self.side == Side::Greenring;
        let face = if is_ours { BOLD } else { LEFT };
        let room = scale.left - MARGIN - 10;
        let name = cut(&self.server, room);
        write(area, &name, (MARGIN, middle), &face.of(13.0, &INK))?;
        let face = if is_ours { RIGHT_BOLD } else { RIGHT };
        let edge = right + VALUES - 4;
        write(area, &self.value, (edge, middle), &face.of(13.0, &INK))?;
        let shade = shade(self.side);
        match &self.mark {
            Mark::Bar {
                median,
                lower,
                upper,
            } => bar(area, scale, middle, [*lower, *median, *upper], shade),
            Mark::Points(values) => points(area, scale, middle, *values, shade),
            Mark::Missing(reason) => {
                let x = scale.pixel(scale.base) + 6;
                let style = LEFT.of(12.0, &LIMIT);
                write(area, &cut(reason, right - x), (x, middle), &style)
            }
        }
    }
}

impl Axis {
    fn tick(&self, value: f64) -> String {
        match self {
            Self::Ratio { low, high } if high - low < 0.3 => format!("{value:.2}"),
            Self::Ratio { .. } => format!("{value:.1}"),
            Self::Linear { tick, .. } | Self::Decades { tick, .. } => tick(value),
        }
    }
}

/// From values to pixels.
struct Scale {
    left: i32,
    right: i32,
    low: f64,
    high: f64,
    base: f64,
    ticks: Vec<f64>,
    map: Box<dyn Fn(f64) -> i32>,
}

impl Scale {
    fn new(axis: Axis, (left, right): (i32, i32)) -> Self {
        let (low, high, base) = match axis {
            Axis::Ratio { low, high } => (low, high, 1.0),
            Axis::Linear { high, .. } => (0.0, high, 0.0),
            Axis::Decades { low, high, .. } => (low, high, low),
        };
        let pixels = (left, right);
        let (ticks, map): (_, Box<dyn Fn(f64) -> i32>) = if let Axis::Decades { .. } = axis {
            let decades = LogCoord::from((low..high * 1.001).log_scale());
            let ticks = decades.key_points((high / low).log10().round() as usize + 1);
            (ticks, Box::new(move |value| decades.map(&value, pixels)))
        } else {
            let linear = RangedCoordf64::from(low..high);
            let ticks = linear.key_points(6);
            (ticks, Box::new(move |value| linear.map(&value, pixels)))
        };
        Self {
            left,
            right,
            low,
            high,
            base,
            ticks,
            map,
        }
    }

    fn has(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// What lies outside is drawn at the edge.
    fn pixel(&self, value: f64) -> i32 {
        (self.map)(value.clamp(self.low, self.high)).clamp(self.left, self.right)
    }
}

/// A bar with its quartiles; an arrowhead where it is cut off.
fn bar(
    area: &Area,
    scale: &Scale,
    middle: i32,
    [lower, median, upper]: [f64; 3],
    shade: &Shade,
) -> io::Result<()> {
    let (from, to) = (scale.pixel(scale.base), scale.pixel(median));
    let (left, right) = (from.min(to), from.max(to).max(from.min(to) + 1));
    fill(area, [(left, middle - 7), (right, middle + 7)], shade)?;
    if median > scale.high {
        let head = [(to, middle - 7), (to + 8, middle), (to, middle + 7)];
        return polygon(area, &head, shade);
    }
    if lower >= upper {
        return Ok(());
    }
    let ends = [(scale.pixel(lower), middle), (scale.pixel(upper), middle)];
    stroke(area, ends, &INK, 1)?;
    for end in [lower, upper].into_iter().filter(|end| scale.has(*end)) {
        let x = scale.pixel(end);
        stroke(area, [(x, middle - 4), (x, middle + 4)], &INK, 1)?;
    }
    Ok(())
}

fn points(
    area: &Area,
    scale: &Scale,
    middle: i32,
    values: [f64; 3],
    shade: &Shade,
) -> io::Result<()> {
    let pixels = values.map(|value| scale.pixel(value));
    stroke(area, [(pixels[0], middle), (pixels[2], middle)], shade, 2)?;
    for (index, x) in pixels.into_iter().enumerate() {
        point(area, index, (x, middle), shade)?;
    }
    Ok(())
}

/// A disc, a square standing on its corner, a stroke: told apart without colour.
fn point(area: &Area, index: usize, (x, y): (i32, i32), shade: &Shade) -> io::Result<()> {
    match index {
        0 => disc(area, (x, y), 5, shade),
        1 => {
            let corners = [(x, y - 6), (x + 6, y), (x, y + 6), (x - 6, y)];
            polygon(area, &corners, shade)
        }
        _ => stroke(area, [(x, y - 6), (x, y + 6)], shade, 3),
    }
}

fn shade(side: Side) -> &'static Shade {
    match side {
        Side::Greenring => &OURS,
        Side::HandWritten => &HAND_WRITTEN,
        Side::Runtime => &RUNTIME,
    }
}

/// As much of a text as so many pixels show.
fn cut(text: &str, pixels: i32) -> String {
    let letters = (f64::from(pixels.max(0)) / LETTER) as usize;
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(letters.saturating_sub(1)).collect();
    cut.push('…');
    cut
}
