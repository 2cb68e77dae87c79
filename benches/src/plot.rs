use std::path::Path;

use plotters::prelude::*;

use crate::system::Error;

/// Figures over the size of the message, both on log scales.
pub struct Chart {
    pub title: &'static str,
    /// What the figures are.
    pub unit: &'static str,
    pub curves: Vec<Curve>,
}

/// A system's figures.
pub struct Curve {
    name: &'static str,
    dashed: bool,
    points: Vec<(usize, f64)>,
}

/// Colours that are told apart on white, also by most who see fewer of them. After the last
/// one they start anew, with another mark.
const COLOURS: [RGBColor; 12] = [
    RGBColor(0, 0, 0),
    RGBColor(150, 150, 150),
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(154, 205, 50),
    RGBColor(213, 0, 50),
    RGBColor(230, 159, 0),
    RGBColor(204, 121, 167),
    RGBColor(120, 60, 160),
    RGBColor(140, 86, 75),
    RGBColor(0, 190, 190),
];
const WIDTH: u32 = 1100;
const HEIGHT: u32 = 640;
/// For the names of the curves.
const MARGIN: u32 = 270;
const FONT: (&str, u32) = ("sans-serif", 15);

impl Curve {
    /// Adds a point to the curve of this name, which may be new.
    pub fn add(curves: &mut Vec<Self>, name: &'static str, dashed: bool, point: (usize, f64)) {
        match curves.iter_mut().find(|curve| curve.name == name && curve.dashed == dashed) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Self { name, dashed, points: vec![point] }),
        }
    }
}

impl Chart {
    /// Draws it into a file.
    pub fn draw(&self, file: &Path) -> Result<(), Error> {
        let mut svg = String::new();
        self.draw_svg(&mut svg).map_err(|error| format!("the plot: {error}"))?;
        std::fs::write(file, svg).map_err(|error| format!("{}: {error}", file.display()).into())
    }

    fn draw_svg(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error + '_>> {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let sizes = bounds(points().map(|(size, _)| *size as f64), 1.2);
        let figures = bounds(points().map(|(_, figure)| *figure), 1.5);
        let root = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
        root.fill(&WHITE)?;
        let (left, right) = root.split_horizontally(WIDTH - MARGIN);
        let mut chart = ChartBuilder::on(&left)
            .caption(self.title, ("sans-serif", 22))
            .margin(12)
            .x_label_area_size(48)
            .y_label_area_size(76)
            .build_cartesian_2d(
                (sizes.0..sizes.1).log_scale().base(2.0),
                (figures.0..figures.1).log_scale(),
            )?;
        chart
            .configure_mesh()
            .x_desc("bytes in a message")
            .y_desc(self.unit)
            .x_labels(12)
            .y_labels(12)
            .x_label_formatter(&|size| bytes(*size))
            .y_label_formatter(&|figure| short(*figure))
            .label_style(FONT)
            .axis_desc_style(FONT)
            .bold_line_style(BLACK.mix(0.15))
            .light_line_style(TRANSPARENT)
            .draw()?;
        let mut names: Vec<&str> = Vec::new();
        for curve in &self.curves {
            if !names.contains(&curve.name) {
                names.push(curve.name);
            }
            let at = names.iter().position(|name| *name == curve.name).unwrap_or_default();
            let colour = COLOURS[at % COLOURS.len()].stroke_width(2);
            let line = curve.points.iter().map(|&(size, figure)| (size as f64, figure));
            if curve.dashed {
                chart.draw_series(DashedLineSeries::new(line.clone(), 7, 4, colour))?;
            } else {
                chart.draw_series(LineSeries::new(line.clone(), colour))?;
            }
            if at < COLOURS.len() {
                chart.draw_series(line.map(|point| Circle::new(point, 3, colour.filled())))?;
            } else {
                let marks = line.map(|point| TriangleMarker::new(point, 6, colour.filled()));
                chart.draw_series(marks)?;
            }
        }
        for (at, name) in names.iter().enumerate() {
            let (y, colour) = (60 + 24 * at as i32, COLOURS[at % COLOURS.len()]);
            right.draw(&PathElement::new([(4, y), (34, y)], colour.stroke_width(3)))?;
            if at < COLOURS.len() {
                right.draw(&Circle::new((19, y), 4, colour.filled()))?;
            } else {
                right.draw(&TriangleMarker::new((19, y), 8, colour.filled()))?;
            }
            right.draw(&Text::new(*name, (42, y - 7), FONT))?;
        }
        root.present()?;
        Ok(())
    }
}

/// The least and the greatest, with room around them.
fn bounds(figures: impl Iterator<Item = f64>, room: f64) -> (f64, f64) {
    let all = figures.fold((f64::MAX, f64::MIN_POSITIVE), |(least, greatest), figure| {
        (least.min(figure), greatest.max(figure))
    });
    (all.0.max(f64::MIN_POSITIVE) / room, all.1 * room)
}

fn bytes(size: f64) -> String {
    let size = size.round() as u64;
    match size {
        0..1024 => format!("{size}"),
        1024..1_048_576 => format!("{} Ki", size / 1024),
        _ => format!("{} Mi", size / 1_048_576),
    }
}

/// A number with a unit's prefix rather than with many noughts.
fn short(figure: f64) -> String {
    match figure {
        ..1e3 => format!("{figure}"),
        ..1e6 => format!("{} k", figure / 1e3),
        _ => format!("{} M", figure / 1e6),
    }
}
