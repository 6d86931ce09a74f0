// CircuitsVis components as a widget. Its own bundle, which defines CircuitsVis, is put before this one by Python.

import type { RenderProps } from "@anywidget/types";
import "./circuits.css";
import { describeParts } from "./circuits/parts";
import { hidePicture } from "./shared/kernel";
import type { WidgetState } from "./shared/refused";

declare const CircuitsVis: Record<string, unknown> & {
  render(id: string, component: unknown, props: unknown): unknown;
};

export interface CircuitsState extends WidgetState {
  component: string;
  props: Record<string, unknown>;
  summary: string; // the same as text, for Python
}

async function render({ model, el, signal }: RenderProps<CircuitsState & Record<string, unknown>>): Promise<void> {
  // Its components paint black on white whatever the theme: they get a light card of their own.
  el.classList.add("saekit-circuits");
  el.setAttribute("role", "group");
  while (!el.isConnected && !signal?.aborted) await new Promise(requestAnimationFrame); // it looks its place up by id
  const observer = new MutationObserver(() => describeParts(el));
  observer.observe(el, { subtree: true, childList: true, attributes: true, attributeFilter: ["style"] });
  const draw = () => {
    const place = document.createElement("div"); // a drawing cannot be updated: a new one replaces it
    place.id = `saekit-circuits-${Math.random().toString(36).slice(2)}`;
    el.setAttribute("aria-label", model.get("summary"));
    el.replaceChildren(place);
    CircuitsVis.render(place.id, CircuitsVis[model.get("component")], model.get("props"));
  };
  const showPicture = hidePicture(model.get("picture_id"));
  signal?.addEventListener("abort", showPicture);
  model.on("change:props", draw);
  signal?.addEventListener("abort", () => {
    model.off("change:props", draw);
    observer.disconnect();
  });
  draw();
}

export default { render };
