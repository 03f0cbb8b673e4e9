"""The report's style sheet: one column, light and dark by the reader's system, printable, nothing loaded."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1f24; --muted: #59636e; --rule: #d9dee4; --panel: #f5f7f9;
  --accent: #0b5fa5; --heat: 11 95 165; --good: #1a7f4b;
  --s0: #0b5fa5; --s1: #b4500b; --s2: #1a7f4b; --s3: #8a3a8f; --s4: #7a6a00; --s5: #b3273f; --s6: #35707a;
}
@media (prefers-color-scheme: dark) { :root {
  --paper: #14181d; --ink: #e4e8ec; --muted: #9aa5b1; --rule: #333b45; --panel: #1c2229;
  --accent: #6cb2ee; --heat: 88 160 222; --good: #63c793;
  --s0: #6cb2ee; --s1: #f0a060; --s2: #63c793; --s3: #d192d6; --s4: #d8c65a; --s5: #f08a9a; --s6: #7cc3ce;
} }
@media print { :root {
  --paper: #ffffff; --ink: #000000; --muted: #444444; --rule: #bbbbbb; --panel: #f3f3f3;
  --accent: #0b5fa5; --heat: 11 95 165;
  --s0: #0b5fa5; --s1: #b4500b; --s2: #1a7f4b; --s3: #8a3a8f; --s4: #7a6a00; --s5: #b3273f; --s6: #35707a;
} }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 0 20px 64px; max-width: 1120px; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif;
  overflow-wrap: break-word; }
header { padding: 40px 0 12px; border-bottom: 2px solid var(--ink); }
h1 { margin: 0; font-size: 30px; line-height: 1.2; letter-spacing: -0.01em; }
header p { margin: 8px 0 0; color: var(--muted); max-width: 72ch; }
nav { margin-top: 16px; display: flex; flex-wrap: wrap; gap: 2px 18px; font-size: 14px; }
a { color: var(--accent); text-underline-offset: 3px; }
nav a { text-decoration: none; padding: 3px 0; } nav a:hover { text-decoration: underline; }
section { margin-top: 44px; }
h2 { margin: 0 0 8px; font-size: 22px; line-height: 1.25; }
h3 { margin: 26px 0 6px; font-size: 16px; }
p { margin: 8px 0; max-width: 76ch; }
.absent { color: var(--muted); font-style: italic; }
.good { color: var(--good); font-weight: 600; }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { margin: 10px 0; padding: 12px 14px; background: var(--panel); border: 1px solid var(--rule); border-radius: 4px;
  overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: 8px; margin: 18px 0; }
.tile { flex: 1 1 200px; padding: 12px 14px; border: 1px solid var(--rule); border-radius: 4px; }
.tile b { display: block; font-size: 25px; line-height: 1.2; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile span { display: block; color: var(--muted); font-size: 13px; line-height: 1.4; margin-top: 3px; }
figure { margin: 16px 0 22px; }
figure img, figure svg, figure video { display: block; width: 100%; height: auto; border-radius: 2px; }
figcaption { margin-top: 7px; color: var(--muted); font-size: 14px; line-height: 1.45; max-width: 84ch; }
.chart svg { max-width: 640px; } .scroll img.wide { min-width: 900px; }
.row { display: grid; gap: 8px; margin: 12px 0; }
.row > figure { margin: 0; } .row figcaption { margin-top: 3px; font-size: 13px; }
.two { grid-template-columns: minmax(0, 5fr) minmax(0, 3fr); align-items: start; }
.halves { grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 0 28px; }
.halves table { width: 100%; } .halves th.n, .halves td.n { padding: 5px 6px; }
.by2 { grid-template-columns: repeat(2, minmax(0, 1fr)); } .by3 { grid-template-columns: repeat(3, minmax(0, 1fr)); }
.strips svg { min-width: 620px; max-width: 900px; }
.player { position: relative; margin-bottom: 92px; }
.player video { position: absolute; inset: 0; height: calc(100% + 84px); object-fit: contain; object-position: 50% 0;
  background: #000; }
.scroll { overflow-x: auto; margin: 12px 0; }
.scroll:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; font-size: 14px; line-height: 1.35; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 14px 5px 0; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--rule); }
thead th { border-bottom: 1px solid var(--ink); font-weight: 600; vertical-align: bottom; }
th.n, td.n { text-align: right; padding: 5px 10px; }
.ladder td:not(.n), .facts td:first-child { white-space: nowrap; } .ladder th.n { max-width: 150px; }
.facts thead { display: none; }
tr.total td { font-weight: 600; border-bottom: 1px solid var(--ink); }
td.bar { min-width: 110px; }
td.bar i { display: block; height: 9px; background: var(--s0); border-radius: 1px; min-width: 1px; }
table.matrix td, table.matrix th { padding: 4px 6px; font-size: 12.5px; text-align: right; }
table.matrix thead th { white-space: nowrap; }
table.matrix th:first-child { text-align: left; padding-right: 12px; font-weight: 600; white-space: nowrap; }
table.matrix td { min-width: 42px; border: 1px solid var(--paper); background: rgb(var(--heat) / var(--v)); }
table.matrix td.hit { outline: 2px solid var(--ink); outline-offset: -2px; font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 3px 16px; margin: 10px 0; padding: 0; list-style: none;
  font-size: 13px; }
.legend li { display: inline-flex; align-items: center; gap: 6px; }
.swatch { flex: none; width: 14px; height: 14px; border: 1px solid var(--muted); border-radius: 2px;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.hatch { background: repeating-linear-gradient(135deg, #787878 0 2px, #ececec 2px 6px); }
details { margin: 10px 0; border: 1px solid var(--rule); border-radius: 4px; padding: 0 14px; }
summary { padding: 9px 0; cursor: pointer; font-weight: 600; font-size: 14px; }
svg text { fill: var(--muted); font: 12px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }
svg .grid { stroke: var(--rule); stroke-width: 1; } svg .axis { stroke: var(--muted); stroke-width: 1; }
svg .band { fill: var(--rule); opacity: 0.55; stroke: none; } svg .name { fill: var(--ink); }
svg .zero { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 3 3; }
svg polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
svg .faint { opacity: 0.28; stroke-width: 1; }
.c0 { stroke: var(--s0); fill: var(--s0); } .c1 { stroke: var(--s1); fill: var(--s1); }
.c2 { stroke: var(--s2); fill: var(--s2); } .c3 { stroke: var(--s3); fill: var(--s3); }
.c4 { stroke: var(--s4); fill: var(--s4); } .c5 { stroke: var(--s5); fill: var(--s5); }
.c6 { stroke: var(--s6); fill: var(--s6); }
table.matrix td, td.bar i { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
@media (max-width: 560px) {
  body { padding: 0 14px 40px; font-size: 15px; } header { padding-top: 24px; } h1 { font-size: 24px; }
  .two, .by3 { grid-template-columns: minmax(0, 1fr); }
  .tile { flex-basis: 140px; } .tile b { font-size: 21px; }
}
@media print {
  body { max-width: none; font-size: 11pt; padding: 0; } nav { display: none; } section { margin-top: 20pt; }
  h2, h3 { break-after: avoid; } figure, tr, .tile { break-inside: avoid; } pre { white-space: pre-wrap; }
  .scroll { overflow: visible; } table { font-size: 9pt; }
}
"""
