// How far a long text is read, with a button that ends reading.

import { button, h } from "../shared/dom";
import type { Model } from "./state";

export interface Progress {
  element: HTMLElement;
  draw(): void;
}

export function progress(model: Model): Progress {
  const bar = h("progress", { max: 1, "aria-label": "Tokens read" });
  const status = h("span", { class: "sk-num", role: "status" });
  const stop = button("Stop", "sk-button", () => {
    stop.disabled = true;
    model.send({ kind: "stop" });
  });
  const error = h("p", { class: "sk-error", role: "alert" });
  const line = h("div", { class: "sk-reading" }, bar, status, stop);
  const element = h("div", {}, line, error);
  const draw = () => {
    const reading = model.get("reading");
    const n = model.get("tokens").length;
    bar.value = n > 0 ? model.get("n_read") / n : 0;
    bar.hidden = stop.hidden = !reading;
    if (!reading) stop.disabled = false;
    status.textContent = stop.disabled ? `${model.get("status")} Stopping after this window.` : model.get("status");
    line.hidden = status.textContent === "";
    error.textContent = model.get("error");
    error.hidden = error.textContent === "";
  };
  stop.addEventListener("click", draw);
  return { element, draw };
}
