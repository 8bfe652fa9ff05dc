//! The few strokes that charts are made of, on an SVG.

use std::io;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::palette::Shade;

/// What is drawn on. Coordinates are pixels from its upper left corner.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws an SVG of a size.
pub fn draw(size: (u32, u32), content: impl FnOnce(&Area) -> io::Result<()>) -> io::Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        content(&area)?;
        area.present().map_err(io::Error::other)?;
    }
    Ok(svg)
}

pub fn write(area: &Area, text: &str, at: (i32, i32), style: &TextStyle) -> io::Result<()> {
    area.draw_text(text, style, at).map_err(io::Error::other)
}

pub fn fill(area: &Area, corners: [(i32, i32); 2], shade: &Shade) -> io::Result<()> {
    area.draw(&Rectangle::new(corners, shade.light().filled()))
        .map_err(io::Error::other)
}

pub fn stroke(area: &Area, ends: [(i32, i32); 2], shade: &Shade, width: u32) -> io::Result<()> {
    let style = shade.light().stroke_width(width);
    area.draw(&PathElement::new(ends.to_vec(), style))
        .map_err(io::Error::other)
}

pub fn polygon(area: &Area, corners: &[(i32, i32)], shade: &Shade) -> io::Result<()> {
    area.draw(&Polygon::new(corners.to_vec(), shade.light()))
        .map_err(io::Error::other)
}

pub fn disc(area: &Area, centre: (i32, i32), radius: i32, shade: &Shade) -> io::Result<()> {
    area.draw(&Circle::new(centre, radius, shade.light().filled()))
        .map_err(io::Error::other)
}

/// Weight and side of a text; its height is centred.
#[derive(Clone, Copy)]
pub struct Face {
    anchor: HPos,
    weight: FontStyle,
}

pub const LEFT: Face = face(HPos::Left, FontStyle::Normal);
pub const BOLD: Face = face(HPos::Left, FontStyle::Bold);
pub const MIDDLE: Face = face(HPos::Center, FontStyle::Normal);
pub const RIGHT: Face = face(HPos::Right, FontStyle::Normal);
pub const RIGHT_BOLD: Face = face(HPos::Right, FontStyle::Bold);

const fn face(anchor: HPos, weight: FontStyle) -> Face {
    Face { anchor, weight }
}

impl Face {
    /// `pixels` high, as CSS counts: the SVG backend divides sizes by 1.24.
    pub fn of(self, pixels: f64, shade: &Shade) -> TextStyle<'static> {
        FontDesc::new(FontFamily::SansSerif, pixels * 1.24, self.weight)
            .color(&shade.light())
            .pos(Pos::new(self.anchor, VPos::Center))
    }
}
