//! Pictures for places that show no SVG.

use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{self, fontdb::Database},
};

use crate::error::ReportError;

/// Pixels per unit of the SVG.
const SCALE: f32 = 2.0;

/// Fonts without serifs that systems have, the first of which is taken.
const FAMILIES: [&str; 5] = ["DejaVu Sans", "Liberation Sans", "Noto Sans", "Arial", "Ubuntu"];

/// Draws an SVG with a font of the system, in twice its resolution; returns a PNG.
///
/// # Errors
/// [`ReportError::NoFont`] if the system has none; [`ReportError::Picture`] if it is no SVG, or has
/// no area.
pub fn render(svg: &str) -> Result<Vec<u8>, ReportError> {
    let failed = |reason: String| ReportError::Picture { reason };
    let mut options = usvg::Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_system_fonts();
    choose_family(fonts)?;
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| failed(error.to_string()))?;
    let size = tree.size();
    let (width, height) = ((size.width() * SCALE) as u32, (size.height() * SCALE) as u32);
    let mut pixels =
        Pixmap::new(width, height).ok_or_else(|| failed("it has no area".to_owned()))?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| failed(error.to_string()))
}

/// Whether pictures can be drawn here, to find out before anything is measured.
///
/// # Errors
/// [`ReportError::NoFont`] if the system has no font.
pub fn check() -> Result<(), ReportError> {
    let mut fonts = Database::new();
    fonts.load_system_fonts();
    choose_family(&mut fonts)
}

/// Makes a font that is there the one for text that asks for any without serifs.
fn choose_family(fonts: &mut Database) -> Result<(), ReportError> {
    let names = || fonts.faces().flat_map(|face| &face.families).map(|family| &family.0);
    let known = FAMILIES.iter().find_map(|wanted| names().find(|name| name == wanted));
    let family = known.or_else(|| names().next()).cloned().ok_or(ReportError::NoFont)?;
    fonts.set_sans_serif_family(family);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_without_fonts_is_told_which_package_has_one() {
        let error = choose_family(&mut Database::new()).unwrap_err();
        assert!(matches!(error, ReportError::NoFont));
        assert!(error.to_string().contains("fonts-dejavu-core"), "{error}");
    }
}
