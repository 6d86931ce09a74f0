// What every widget has: a line that says why what was last set or sent was refused. Python fills it.

import type { AnyModel } from "@anywidget/types";
import { h } from "./dom";
import { onChange } from "./model";

export interface WidgetState {
  refused: string; // empty when nothing was
  picture_id: string; // the name of the static picture beside the views; see kernel.ts
}

/** The line, hidden while there is nothing to say. */
export function refusedLine(
  model: AnyModel<WidgetState & Record<string, unknown>>,
  signal: AbortSignal | undefined,
): HTMLElement {
  const line = h("p", { class: "sk-error", role: "alert" });
  const draw = () => {
    line.textContent = model.get("refused") ?? ""; // not part of an offline page
    line.hidden = line.textContent === "";
  };
  onChange<WidgetState>(model, ["refused"], draw, signal);
  draw();
  return line;
}
