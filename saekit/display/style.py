"""The style sheet of every display.

The text has the host's colour, whatever that is, and everything grey is that colour made fainter, so that a light and a
dark page both have the contrast they are made for. Orange is a feature's activation, blue an estimate; both stand out
from white and from black. Rules are for classes inside `.saekit-display` alone, and overrule what hosts do to tables.
"""

import re

_SOURCE = """
.saekit-display {
  --sk-orange: #e06c00; --sk-blue: #2f82d0;
  color: var(--vscode-editor-foreground, var(--jp-content-font-color1, inherit));
  font: 13px/1.45 var(--jp-ui-font-family, var(--vscode-font-family, system-ui, sans-serif));
  max-width: 78em; padding: 4px 0; text-align: start; overflow-wrap: break-word;
}
.saekit-display * { box-sizing: border-box; }
.saekit-display .saekit-muted, .saekit-display .saekit-ends {
  color: color-mix(in srgb, currentColor 78%, transparent);
}
.saekit-display .saekit-head { margin: 0 0 6px; font-size: 13px; }
.saekit-display .saekit-title { font-size: 15px; font-weight: 600; margin-inline-end: .4em; color: inherit; }
.saekit-display p { margin: 4px 0; font-size: 13px; line-height: 1.45; }
.saekit-display .saekit-warn { border-inline-start: 3px solid var(--sk-orange); padding-inline-start: 8px; }
.saekit-display .saekit-scroll { overflow-x: auto; margin: 4px 0 8px; max-width: 100%; }

.saekit-display table.saekit-table {
  display: table; width: auto; margin: 0; border: 0; border-collapse: collapse; table-layout: auto;
  font: inherit; color: inherit; background: none;
}
.saekit-display table.saekit-table caption {
  caption-side: top; padding: 2px 0; text-align: start; font-weight: 600; color: inherit; white-space: normal;
}
.saekit-display table.saekit-table tr:nth-child(n) { background: none; border: 0; }
.saekit-display table.saekit-table tbody tr:nth-child(n):hover {
  background: color-mix(in srgb, currentColor 7%, transparent);
}
.saekit-display table.saekit-table th, .saekit-display table.saekit-table td {
  min-width: 0; max-width: 34em; padding: 2px 9px; border: 0; background: none; color: inherit;
  border-bottom: 1px solid color-mix(in srgb, currentColor 14%, transparent);
  font-size: 13px; line-height: 1.45; text-align: start; vertical-align: baseline; white-space: normal;
}
.saekit-display table.saekit-table th { font-weight: 600; }
.saekit-display table.saekit-table thead :is(th, td) {
  border-bottom: 1px solid color-mix(in srgb, currentColor 45%, transparent); vertical-align: bottom;
}
.saekit-display table.saekit-table tbody th { font-weight: 500; }
.saekit-display table.saekit-table th:first-child, .saekit-display table.saekit-table td:first-child {
  padding-inline-start: 0;
}
.saekit-display table.saekit-table .saekit-num {
  text-align: end; font-variant-numeric: tabular-nums; white-space: nowrap;
}
.saekit-display table.saekit-table thead .saekit-num { white-space: normal; }
.saekit-display table.saekit-table .saekit-ci {
  padding-inline-start: 0; text-align: start; font-variant-numeric: tabular-nums; font-weight: 400;
}
.saekit-display table.saekit-table td.saekit-ci,
.saekit-display table.saekit-table .saekit-name { white-space: nowrap; }
.saekit-display table.saekit-facts td, .saekit-display table.saekit-table .saekit-wide { max-width: 56em; }
.saekit-display table.saekit-table .saekit-pic { width: 132px; min-width: 112px; vertical-align: middle; }
.saekit-display table.saekit-table thead .saekit-pic { vertical-align: bottom; }
.saekit-display table.saekit-facts td, .saekit-display table.saekit-table :is(.saekit-wide, .saekit-long) {
  overflow-wrap: anywhere;
}
.saekit-display table.saekit-table .saekit-long { min-width: 12em; }
.saekit-display table.saekit-facts th { font-weight: 400; white-space: nowrap; }

.saekit-display .saekit-axis, .saekit-display .saekit-bar {
  position: relative; display: block; height: 12px; min-width: 96px;
}
.saekit-display .saekit-axis::before {
  content: ""; position: absolute; inset: 6px 0 auto; height: 1px;
  background: color-mix(in srgb, currentColor 22%, transparent);
}
.saekit-display .saekit-axis i, .saekit-display .saekit-axis b { position: absolute; background: var(--sk-blue); }
.saekit-display .saekit-axis i { top: 5px; height: 3px; min-width: 1px; border-radius: 1px; }
.saekit-display .saekit-axis b { top: 2px; width: 9px; height: 9px; margin-left: -4.5px; border-radius: 50%; }
.saekit-display .saekit-bar { background: color-mix(in srgb, currentColor 9%, transparent); border-radius: 2px; }
.saekit-display .saekit-bar b {
  position: absolute; inset: 0 auto 0 0; min-width: 1px; border-radius: 2px; background: var(--sk-blue);
}
.saekit-display .saekit-acts b { background: var(--sk-orange); }
.saekit-display sup { font-size: 10px; line-height: 0; }
.saekit-display .saekit-ends {
  display: flex; justify-content: space-between; font-size: 11px; font-weight: 400;
  font-variant-numeric: tabular-nums;
}
.saekit-display .saekit-ends span::before { content: attr(data-end); }
.saekit-display .saekit-histogram {
  display: flex; align-items: flex-end; gap: 1px; height: 44px; max-width: 340px;
  border-bottom: 1px solid color-mix(in srgb, currentColor 45%, transparent);
}
.saekit-display .saekit-histogram b { flex: 1; min-width: 2px; background: var(--sk-orange); }
.saekit-display .saekit-histogram + .saekit-ends { max-width: 340px; margin-bottom: 6px; }

.saekit-display details { margin: 4px 0; }
.saekit-display summary { display: list-item; cursor: pointer; font-size: 13px; }
.saekit-display details > div { margin-inline-start: 14px; }
.saekit-display .saekit-text { margin: 3px 0; white-space: pre-wrap; unicode-bidi: plaintext; }
.saekit-display table.saekit-table .saekit-text { margin: 0; }
.saekit-display .saekit-fire {
  border-radius: 2px; color: inherit; font-weight: inherit;
  background: color-mix(in srgb, var(--sk-orange) calc(var(--heat) * 50%), transparent);
}
.saekit-display strong.saekit-fire { font-weight: 600; outline: 1px solid var(--sk-orange); }
.saekit-display .saekit-chips { display: flex; flex-wrap: wrap; gap: 4px; align-items: baseline; }
.saekit-display .saekit-chips > span {
  padding: 0 5px; border: 1px solid color-mix(in srgb, currentColor 28%, transparent); border-radius: 3px;
  font-size: 12px; line-height: 1.5; white-space: pre-wrap; overflow-wrap: anywhere;
}
.saekit-display pre, .saekit-display code {
  margin: 0; padding: 0; border: 0; background: none; color: inherit; white-space: pre-wrap;
  font: 12px/1.5 var(--jp-code-font-family, var(--vscode-editor-font-family, ui-monospace, monospace));
}
@media (max-width: 600px) {
  .saekit-display table.saekit-table th, .saekit-display table.saekit-table td { padding: 2px 5px; }
  .saekit-display table.saekit-table .saekit-pic { width: 84px; min-width: 76px; }
  .saekit-display .saekit-scroll[tabindex] .saekit-pic { display: none; }
  .saekit-display .saekit-axis, .saekit-display .saekit-bar { min-width: 64px; }
}
"""

CSS = re.sub(r"\s*([{};,])\s*", r"\1", re.sub(r"(?<=[\w-]): ", ":", re.sub(r"\s+", " ", _SOURCE))).strip()
"""Without the spaces: every display carries it."""
