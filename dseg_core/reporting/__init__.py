"""Building blocks of the report: HTML that escapes by itself, charts as SVG, pictures of frames."""
