// The style sheet of the report: light or dark as the reader's system is.
#pragma once

namespace ft {

inline constexpr const char* kReportStyle = R"css(
:root { color-scheme: light dark; --paper: #fff; --card: #fafafa; --ink: #1c1f24; --soft: #5f6873;
  --edge: #dfe3e8; --c0: #2f6fbb; --c1: #d1622b; --c2: #2d8f5c; --c3: #b0385c; --c4: #7a56b8;
  --c5: #8a6d1d; --c6: #1c8b96; --c7: #c25aa6; --c8: #5b6b7b; --c9: #6b9a1e; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --card: #1b1f24; --ink: #e4e7eb; --soft: #98a2ae; --edge: #323942;
    --c0: #6ea8ee; --c1: #f0925f; --c2: #5cc48f; --c3: #ea7898; --c4: #b194ec; --c5: #d3b45c;
    --c6: #58c5d0; --c7: #ec94d3; --c8: #a3b2c2; --c9: #a6d355; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px; max-width: 1320px; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } table + h1 { margin-top: 32px; } h2 { font-size: 17px; margin: 28px 0 10px; }
.soft, .unit { color: var(--soft); font-weight: normal; }
.note { border-left: 3px solid var(--c1); padding: 2px 10px; margin: 8px 0; }
.numbers { display: flex; flex-wrap: wrap; gap: 10px 34px; margin: 16px 0; }
.numbers div { font-size: 20px; } .numbers small { display: block; color: var(--soft);
  font-size: 13px; }
table { border-collapse: collapse; } td, th { text-align: left; padding: 2px 18px 2px 0;
  vertical-align: top; overflow-wrap: anywhere; } th { color: var(--soft); font-weight: normal;
  white-space: nowrap; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr));
  gap: 16px; }
figure { margin: 0; padding: 12px 14px 8px; background: var(--card);
  border: 1px solid var(--edge); border-radius: 6px; }
figcaption { font-weight: 600; margin-bottom: 4px; }
figure > svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
svg path { fill: none; stroke-width: 1.7; stroke-linejoin: round; }
svg path.grid { stroke: var(--edge); stroke-width: 1; }
svg path.axis { stroke: var(--soft); stroke-width: 1; }
svg path.mark { stroke-width: 1.4; stroke-dasharray: 2 3; }
svg path.small { stroke-width: 2.4; stroke-dasharray: none; }
svg path.faint { opacity: .35; stroke-width: 1; } svg path.dashed { stroke-dasharray: 6 4; }
rect.hover { fill: transparent; } rect.hover:hover { fill: var(--soft); opacity: .15; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 13px; color: var(--soft); }
.key svg { margin-right: 5px; vertical-align: middle; }
.c0 { stroke: var(--c0); } .c1 { stroke: var(--c1); } .c2 { stroke: var(--c2); }
.c3 { stroke: var(--c3); } .c4 { stroke: var(--c4); } .c5 { stroke: var(--c5); }
.c6 { stroke: var(--c6); } .c7 { stroke: var(--c7); } .c8 { stroke: var(--c8); }
.c9 { stroke: var(--c9); }
.b0 { background: var(--c0); } .b1 { background: var(--c1); } .b2 { background: var(--c2); } .b3 { background: var(--c3); } .b4 { background: var(--c4); }
.b5 { background: var(--c5); } .b6 { background: var(--c6); } .b7 { background: var(--c7); } .b8 { background: var(--c8); } .b9 { background: var(--c9); }
.f0 { fill: var(--c0); } .f1 { fill: var(--c1); } .f2 { fill: var(--c2); }
.f3 { fill: var(--c3); } .f4 { fill: var(--c4); } .f5 { fill: var(--c5); }
.f6 { fill: var(--c6); } .f7 { fill: var(--c7); } .f8 { fill: var(--c8); }
.f9 { fill: var(--c9); }
.wide { overflow-x: auto; } .wide th, .wide td { white-space: nowrap; overflow-wrap: normal;
  padding: 3px 20px 3px 0; } .wide td.text { white-space: normal; min-width: 240px; }
.wide tr.head th { border-bottom: 1px solid var(--edge); vertical-align: bottom; }
.num { text-align: right; font-variant-numeric: tabular-nums; } tr.left { opacity: .5; }
.swatch { display: inline-block; width: 12px; height: 12px; border-radius: 2px;
  margin-right: 7px; vertical-align: -1px; }
details { margin: 10px 0; } summary { cursor: pointer; }
pre { background: var(--card); border: 1px solid var(--edge); border-radius: 6px; padding: 12px;
  overflow: auto; font: 12.5px/1.45 ui-monospace, monospace; }
)css";

}  // namespace ft
