//! The colours of the report. Charts are drawn in the light ones; since an SVG
//! names a colour by an attribute, which a style sheet overrides, the dark ones
//! replace them on a screen that asks for it.

use std::fmt::Write as _;

use plotters::style::RGBColor;

/// A colour on light paper and its counterpart on dark.
pub struct Shade {
    name: &'static str,
    light: (u8, u8, u8),
    dark: (u8, u8, u8),
}

pub const PAPER: Shade = shade("paper", (255, 255, 255), (22, 26, 30));
pub const INK: Shade = shade("ink", (27, 33, 38), (229, 233, 236));
pub const MUTED: Shade = shade("muted", (86, 97, 107), (158, 169, 179));
pub const FAINT: Shade = shade("faint", (220, 225, 230), (52, 60, 68));
/// Bars of greenring, and the band behind them.
pub const OURS: Shade = shade("ours", (24, 121, 72), (70, 196, 132));
pub const BAND: Shade = shade("band", (228, 243, 234), (24, 48, 36));
pub const HAND_WRITTEN: Shade = shade("hand", (104, 115, 125), (139, 150, 160));
pub const RUNTIME: Shade = shade("runtime", (146, 172, 201), (92, 124, 160));
/// The line at the limit, and what is wrong.
pub const LIMIT: Shade = shade("limit", (193, 67, 14), (242, 140, 80));

const ALL: [&Shade; 9] = [
    &PAPER,
    &INK,
    &MUTED,
    &FAINT,
    &OURS,
    &BAND,
    &HAND_WRITTEN,
    &RUNTIME,
    &LIMIT,
];

const fn shade(name: &'static str, light: (u8, u8, u8), dark: (u8, u8, u8)) -> Shade {
    Shade { name, light, dark }
}

impl Shade {
    /// The colour that charts are drawn in.
    pub fn light(&self) -> RGBColor {
        let (red, green, blue) = self.light;
        RGBColor(red, green, blue)
    }
}

/// A variable for each shade, and the rules that darken text and charts.
pub fn style_sheet() -> String {
    let mut light = String::new();
    let mut dark = String::new();
    let mut charts = String::new();
    for shade in ALL {
        let name = shade.name;
        let old = hexadecimal(shade.light);
        let new = hexadecimal(shade.dark);
        // Writing to a string does not fail.
        let _ = write!(light, "--{name}:{old};");
        let _ = write!(dark, "--{name}:{new};");
        for attribute in ["fill", "stroke"] {
            let _ = writeln!(
                charts,
                "figure svg [{attribute}=\"{old}\"]{{{attribute}:{new}}}"
            );
        }
    }
    format!(
        ":root{{{light}}}\n\
         @media screen and (prefers-color-scheme: dark){{\n\
         :root{{color-scheme:dark;{dark}}}\n{charts}}}\n"
    )
}

/// As the SVG backend writes it: attribute selectors compare letter by letter.
fn hexadecimal((red, green, blue): (u8, u8, u8)) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}
