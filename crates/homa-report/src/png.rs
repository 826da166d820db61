//! Pictures for places that show no SVG.

use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg,
};

use crate::error::ReportError;

/// Pixels per unit of the SVG.
const SCALE: f32 = 2.0;

/// Draws an SVG with a font that comes with this program, in twice its resolution; returns a PNG.
///
/// # Errors
/// [`ReportError::Picture`] if it is no SVG, or has no area.
pub fn render(svg: &str) -> Result<Vec<u8>, ReportError> {
    let failed = |reason: String| ReportError::Picture { reason };
    let mut options = usvg::Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let family =
        fonts.faces().next().and_then(|face| face.families.first()).map(|family| family.0.clone());
    if let Some(family) = family {
        fonts.set_sans_serif_family(family);
    }
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| failed(error.to_string()))?;
    let size = tree.size();
    let (width, height) = ((size.width() * SCALE) as u32, (size.height() * SCALE) as u32);
    let mut pixels =
        Pixmap::new(width, height).ok_or_else(|| failed("it has no area".to_owned()))?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| failed(error.to_string()))
}
