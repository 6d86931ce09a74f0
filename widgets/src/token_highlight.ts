// Text coloured by activation. All sparse activations of the text are here, so a recolouring needs no kernel.

import type { AnyModel, RenderProps } from "@anywidget/types";
import "./shared/base.css";
import "./token_highlight.css";
import { type Binary, SparseRows } from "./shared/arrays";
import { button, field, h, QUIET, rove, uid } from "./shared/dom";
import { listen, put } from "./shared/model";
import { alone, column, count, direction, glyphs, lineBreaks, number, spoken } from "./shared/text";

export interface HighlightState {
  tokens: string[];
  excluded: string[];
  acts: { start?: Binary; feature?: Binary; value?: Binary };
  n_features: number;
  names: Record<string, string>;
  feature: number | null;
  selected: number;
  scale: number | null;
}
type Model = AnyModel<HighlightState & Record<string, unknown>>;

const N_STRONGEST = 8;

function render({ model, el, signal }: RenderProps<HighlightState & Record<string, unknown>>): void {
  el.classList.add("saekit", "saekit-highlight");
  const legend = legendOf(model);
  const text = h("div", { class: "sk-tokens", role: "group" });
  const detail = h("div", { class: "sk-detail" });
  const status = h("output", { class: "sk-spoken", "aria-live": "polite" });
  el.replaceChildren(legend.element, text, detail, status);

  let rows = new SparseRows(new Int32Array(), new Int32Array(), new Float32Array());
  let spans: HTMLElement[] = [];
  let hovered = -1;
  let focused = -1;

  const selected = () => model.get("selected");
  const pick = (i: number) => {
    const next = i === selected() ? -1 : i;
    put<HighlightState>(model, { selected: next });
    status.textContent =
      next < 0 ? "No token selected" : `Token ${next} selected: ${spoken(model.get("tokens")[next] ?? "")}`;
  };

  let drawn = "";
  const showDetail = () => {
    const at = hovered >= 0 ? hovered : focused >= 0 ? focused : selected();
    const wanted = `${at} ${selected()} ${model.get("feature")}`;
    if (wanted === drawn) return; // a chip must not be replaced between the press and the release of a mouse button
    drawn = wanted;
    detail.replaceChildren(...detailOf(model, rows, at));
  };

  const colour = () => {
    const tokens = model.get("tokens");
    const excluded = model.get("excluded");
    const feature = model.get("feature");
    const values = rows.column(feature);
    let top = 0;
    for (const value of values) if (value > top) top = value;
    const scale = model.get("scale") ?? top;
    spans.forEach((span, i) => {
      const value = values[i] ?? 0;
      const why = excluded[i] ?? "";
      span.style.setProperty("--a", (scale > 0 ? Math.min(1, Math.max(0, value / scale)) : 0).toFixed(3));
      const fired = rows.strongest(i, 3).map((f) => f.feature);
      const said = why ? `not counted, ${why}` : value > 0 ? `activation ${number(value)}` : "activation 0";
      const most = fired.length > 0 ? `; strongest features ${fired.join(", ")}` : "";
      span.setAttribute("aria-label", `Token ${i}, ${spoken(tokens[i] ?? "")}: ${said}${most}`);
    });
    legend.draw(top, scale);
    drawn = "";
    showDetail();
  };

  const mark = () => {
    const at = selected();
    const stop = at >= 0 && at < spans.length ? at : Math.max(0, focused);
    spans.forEach((span, i) => {
      span.setAttribute("aria-pressed", String(i === at));
      span.tabIndex = i === stop ? 0 : -1;
    });
    showDetail();
  };

  const build = () => {
    const tokens = model.get("tokens");
    const excluded = model.get("excluded");
    rows = SparseRows.from(model.get("acts"));
    hovered = focused = -1;
    text.dir = direction(tokens.filter((_, i) => !excluded[i]));
    text.setAttribute("aria-label", `Text of ${tokens.length} tokens`);
    spans = tokens.map((token, i) => {
      const span = h("span", { class: excluded[i] ? "sk-token sk-out" : "sk-token", role: "button", ...QUIET });
      span.dataset.i = String(i);
      span.textContent = glyphs(token) || "\u2205";
      return span;
    });
    text.replaceChildren(
      ...spans.flatMap((span, i) => [span, ...Array.from({ length: lineBreaks(tokens[i] ?? "") }, () => h("br"))]),
    );
    if (tokens.length === 0) text.replaceChildren(h("p", { class: "sk-empty" }, "No text yet."));
    mark();
    colour();
  };

  const indexOf = (target: EventTarget | null) => {
    const span = target instanceof Element ? target.closest<HTMLElement>(".sk-token") : null;
    return span ? Number(span.dataset.i) : -1;
  };
  text.addEventListener("click", (event) => {
    const i = indexOf(event.target);
    if (i >= 0) pick(i);
  });
  text.addEventListener("pointerover", (event) => {
    hovered = indexOf(event.target);
    if (hovered >= 0) showDetail();
  });
  text.addEventListener("pointerleave", () => {
    hovered = -1;
    showDetail();
  });
  text.addEventListener("focusin", (event) => {
    focused = indexOf(event.target);
    showDetail();
  });
  el.addEventListener("focusout", (event) => {
    if (event.relatedTarget instanceof Node && el.contains(event.relatedTarget)) return;
    // A chip that redraws its list loses focus for a moment: look again when that is done.
    setTimeout(() => {
      if (focused < 0 || el.contains(document.activeElement)) return;
      focused = -1;
      showDetail();
    });
  });
  text.addEventListener("keydown", (event) => {
    const at = indexOf(event.target);
    if (at < 0) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      event.stopPropagation();
      pick(at);
      return;
    }
    const [on, back] = text.dir === "rtl" ? ["ArrowLeft", "ArrowRight"] : ["ArrowRight", "ArrowLeft"];
    const to = rove(event, at, spans.length, { on: [on, "ArrowDown"], back: [back, "ArrowUp"] });
    if (to === null) return;
    hovered = -1;
    for (const span of spans) span.tabIndex = -1;
    const span = spans[to];
    if (span) {
      span.tabIndex = 0;
      span.focus();
    }
  });

  listen<HighlightState>(model, ["tokens", "excluded", "acts"], build, signal);
  listen<HighlightState>(model, ["feature", "scale", "names"], colour, signal);
  listen<HighlightState>(model, ["selected"], mark, signal);
  build();
}

/** What colours the text: its name, the scale and a box to type another feature. */
function legendOf(model: Model): { element: HTMLElement; draw(top: number, scale: number): void } {
  const what = h("span", { class: "sk-what" });
  const name = h("span", { class: "sk-soft" });
  const low = h("span", {}, "0");
  const high = h("span");
  const scaleBox = h("span", { class: "sk-scale", role: "img" }, low, h("span", { class: "sk-ramp" }), high);
  const box = h("input", { type: "number", min: 0, step: 1, placeholder: "strongest", ...QUIET });
  const problem = h("span", { class: "sk-soft", role: "status", id: uid("problem") });
  box.setAttribute("aria-describedby", problem.id);
  const reset = button("Show strongest", "sk-button", () => put<HighlightState>(model, { feature: null }));
  const enter = () => {
    const limit = model.get("n_features");
    const value = box.value.trim() === "" ? null : Number(box.value);
    const good =
      box.validity.badInput === false && (value === null || (Number.isInteger(value) && value >= 0 && value < limit));
    box.setAttribute("aria-invalid", String(!good));
    problem.textContent = good ? "" : `Feature numbers run from 0 to ${count(limit - 1)}.`;
    if (good && value !== model.get("feature")) put<HighlightState>(model, { feature: value });
  };
  box.addEventListener("change", enter);
  box.addEventListener("keydown", (event) => event.stopPropagation());
  const element = h(
    "div",
    { class: "sk-legend" },
    what,
    scaleBox,
    name,
    field("Colour by feature", box),
    reset,
    problem,
  );
  return {
    element,
    draw(top, scale) {
      const feature = model.get("feature");
      what.textContent = feature === null ? "Strongest activation of any feature" : `Activation of feature ${feature}`;
      const promoted = feature === null ? undefined : model.get("names")[String(feature)];
      const silent =
        top > 0 ? "" : feature === null ? "No feature fires on this text." : "It does not fire on this text.";
      name.textContent = [promoted ? `promotes ${promoted}` : "", silent].filter(Boolean).join(" \u00b7 ");
      name.hidden = name.textContent === "";
      high.textContent = number(scale);
      scaleBox.hidden = scale <= 0;
      scaleBox.setAttribute("aria-label", `Colour scale from 0 to ${number(scale)}`);
      box.max = String(model.get("n_features") - 1);
      box.value = feature === null ? "" : String(feature);
      box.setAttribute("aria-invalid", "false");
      problem.textContent = "";
      reset.hidden = feature === null;
    },
  };
}

/** The token under the pointer or focus, its value and its strongest features as buttons that recolour the text. */
function detailOf(model: Model, rows: SparseRows, at: number): HTMLElement[] {
  const token = model.get("tokens")[at];
  if (token === undefined) {
    const hint = "Point at a token to see its features; click it to select it. Arrow keys move between tokens.";
    return [h("p", { class: "sk-soft" }, hint)];
  }
  const feature = model.get("feature");
  const why = model.get("excluded")[at] ?? "";
  const line = h(
    "div",
    { class: "sk-detail-line" },
    h("code", {}, alone(token)),
    h("span", { class: "sk-soft" }, `token ${at}`),
  );
  if (at === model.get("selected")) line.append(h("span", { class: "sk-soft" }, "selected"));
  if (why) {
    line.append(h("span", {}, `not counted: ${why}`));
    const more = "Such tokens are left out of training, statistics and steering, so no activations are shown for them.";
    return [line, h("p", { class: "sk-soft" }, more)];
  }
  const strongest = rows.strongest(at, N_STRONGEST);
  if (feature !== null) {
    const value = rows.strongest(at, Infinity).find((f) => f.feature === feature)?.value ?? 0;
    line.append(h("span", { class: "sk-num" }, `feature ${feature}: ${number(value)}`));
  }
  const n = rows.count(at);
  const said = n === 0 ? "no feature fires here" : n === 1 ? "1 feature fires here" : `${count(n)} features fire here`;
  line.append(h("span", { class: "sk-soft" }, n > N_STRONGEST ? `${said}; the strongest ${N_STRONGEST}:` : said));
  const top = strongest[0]?.value ?? 1;
  const chips = strongest.map((firing) => {
    const on = firing.feature === feature;
    const chip = button("", "sk-chip", () => {
      const detail = chip.closest(".sk-detail");
      put<HighlightState>(model, { feature: on ? null : firing.feature });
      // The chips were drawn again: the keyboard stays on the same one.
      detail?.querySelector<HTMLElement>(`[data-feature="${firing.feature}"]`)?.focus({ preventScroll: true });
    });
    const promoted = model.get("names")[String(firing.feature)];
    chip.append(h("b", {}, String(firing.feature)));
    if (promoted) chip.append(h("span", { class: "sk-name" }, promoted));
    chip.append(h("span", { class: "sk-num" }, column(firing.value)));
    chip.dataset.feature = String(firing.feature);
    chip.style.setProperty("--a", (firing.value / top).toFixed(3));
    chip.setAttribute("aria-pressed", String(on));
    const named = promoted ? `, promotes ${promoted}` : "";
    chip.setAttribute(
      "aria-label",
      `Feature ${firing.feature}, activation ${number(firing.value)}${named}; colour the text by it`,
    );
    return chip;
  });
  const list = h(
    "div",
    { class: "sk-chips", role: "group", "aria-label": "Strongest features at this token" },
    ...chips,
  );
  return [line, list];
}

export default { render };
