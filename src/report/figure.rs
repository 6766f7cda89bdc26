//! Drawing shared by all figures: colours, type sizes, text, and the step from plotters to an SVG string.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontDesc, FontFamily, FontStyle};

use resvg::{tiny_skia, usvg};

use crate::error::{Error, Result};

/// Titles and values. The page maps these five to its own variables, so that figures follow a dark theme.
pub const INK: RGBColor = RGBColor(0x1f, 0x29, 0x33);
/// Axis labels and notes.
pub const MUTED: RGBColor = RGBColor(0x6b, 0x72, 0x80);
/// Grid lines.
pub const GRID: RGBColor = RGBColor(0xe3, 0xe6, 0xea);
/// Axis lines and zero lines.
pub const AXIS: RGBColor = RGBColor(0xb4, 0xba, 0xc2);
/// Bars of what is there only to compare with.
pub const PLAIN: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);
/// Series colours, in order; the first is the gist's.
pub const SERIES: [RGBColor; 4] =
    [RGBColor(0x2e, 0x7e, 0xbf), RGBColor(0xd9, 0x82, 0x2b), RGBColor(0x3a, 0x9a, 0x6b), RGBColor(0x8b, 0x62, 0xb8)];
/// Leak controls.
pub const WARNING: RGBColor = RGBColor(0xc4, 0x57, 0x6b);

const MARGIN: u32 = 18;
/// Font of PNG files; fonts of the machine are not read.
const TYPEFACE: &str = "DejaVu Sans";

/// A colour as an SVG attribute holds it, such as `#1F2933`.
pub fn hex(color: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2)
}

/// A canvas, whole or part.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A finished drawing.
#[derive(Clone, Debug)]
pub struct Figure {
    /// File stem.
    pub name: String,
    /// Description for a screen reader.
    pub title: String,
    /// The drawing, transparent and without a margin.
    pub svg: String,
    size: (u32, u32),
}

impl Figure {
    /// Draws on a canvas of `size` pixels.
    pub fn draw(
        name: &str,
        title: &str,
        size: (u32, u32),
        paint: impl FnOnce(&Area) -> std::result::Result<(), Box<dyn std::error::Error>>,
    ) -> Result<Figure> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            let done = paint(&area).and_then(|()| Ok(area.present()?));
            done.map_err(|e| Error::invalid(format!("figure `{name}`: {e}")))?;
        }
        Ok(Figure { name: name.into(), title: title.into(), svg, size })
    }

    /// A drawing made elsewhere; `svg` begins with its `<svg …>`.
    pub fn from_svg(name: &str, title: &str, size: (u32, u32), svg: String) -> Figure {
        Figure { name: name.into(), title: title.into(), svg, size }
    }

    /// [`Figure::standalone`] as a PNG file of `scale` times the size, in a typeface of our own.
    pub fn png(&self, scale: f32) -> Result<Vec<u8>> {
        let wrong = |message: String| Error::invalid(format!("figure `{}`: {message}", self.name));
        let mut options = usvg::Options { font_family: TYPEFACE.into(), ..usvg::Options::default() };
        let fonts = options.fontdb_mut();
        fonts.load_font_data(dejavu::sans::regular().to_vec());
        fonts.load_font_data(dejavu::sans::bold().to_vec());
        fonts.set_sans_serif_family(TYPEFACE);
        let tree = usvg::Tree::from_str(&self.standalone(), &options).map_err(|e| wrong(e.to_string()))?;
        let pixels = |side: f32| (side * scale).ceil() as u32;
        let (width, height) = (pixels(tree.size().width()), pixels(tree.size().height()));
        let mut map =
            tiny_skia::Pixmap::new(width, height).ok_or_else(|| wrong(format!("{width} x {height} pixels")))?;
        resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut map.as_mut());
        map.encode_png().map_err(|e| wrong(e.to_string()))
    }

    /// The drawing on white with a margin, for a file of its own.
    pub fn standalone(&self) -> String {
        let (width, height) = (self.size.0 + 2 * MARGIN, self.size.1 + 2 * MARGIN);
        let head = format!(
            "<svg width=\"{width}\" height=\"{height}\" viewBox=\"-{MARGIN} -{MARGIN} {width} {height}\" \
             xmlns=\"http://www.w3.org/2000/svg\">\n\
             <rect x=\"-{MARGIN}\" y=\"-{MARGIN}\" width=\"{width}\" height=\"{height}\" fill=\"#FFFFFF\"/>\n"
        );
        self.svg.split_once('>').map_or_else(String::new, |(_, body)| head + body.trim_start())
    }
}

/// Sans-serif of `size` pixels (the SVG backend divides by 1.24).
pub fn font(size: i32, bold: bool) -> FontDesc<'static> {
    let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
    FontDesc::new(FontFamily::SansSerif, f64::from(size) * 1.24, style)
}

/// Writes `text` from `at`, which is its top left corner.
pub fn write(
    area: &Area,
    text: &str,
    at: (i32, i32),
    size: i32,
    bold: bool,
    color: RGBColor,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    Ok(area.draw(&Text::new(text.to_string(), at, font(size, bold).color(&color)))?)
}

/// About how wide `text` will be.
pub fn width(text: &str, size: i32) -> i32 {
    (text.chars().count() as f64 * f64::from(size) * 0.56).round() as i32
}
