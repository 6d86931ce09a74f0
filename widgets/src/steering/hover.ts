// A small card by the token under the pointer or the keyboard's cursor: how likely it was, what else could have stood there.

import { button, h, rove } from "../shared/dom";
import { put } from "../shared/model";
import { alone, spoken } from "../shared/text";
import { chip, rowsOf } from "./colour";
import type { RepliesView, Spot } from "./replies";
import type { Choice, Model, SteeringState } from "./state";
import { probability, surprise } from "./units";

const N_CHOICES = 8;
const N_FEATURES = 4;
const GAP = 6;

interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** Where a card of this size goes: below the token, else above it, else beside it; always inside the bounds. */
export function place(token: Box, size: { width: number; height: number }, bounds: Box): { left: number; top: number } {
  const clamp = (value: number, low: number, high: number) => Math.max(low, Math.min(value, high));
  const left = clamp(token.left, bounds.left, bounds.right - size.width);
  if (token.bottom + GAP + size.height <= bounds.bottom) return { left, top: token.bottom + GAP };
  if (token.top - GAP - size.height >= bounds.top) return { left, top: token.top - GAP - size.height };
  const top = clamp(token.bottom + GAP, bounds.top, bounds.bottom - size.height);
  if (token.right + GAP + size.width <= bounds.right) return { left: token.right + GAP, top };
  if (token.left - GAP - size.width >= bounds.left) return { left: token.left - GAP - size.width, top };
  return { left, top };
}

/** The candidates that the card lists: the likeliest, and the token that was written. */
export function listed(choices: readonly Choice[], token: string): { choice: Choice; written: boolean }[] {
  const exact = choices.findIndex((c) => c[0] === token);
  const at = exact >= 0 ? exact : choices.findIndex((c) => c[0].trim() === token.trim());
  const kept = choices.map((choice, i) => ({ choice, written: i === at }));
  return kept.filter((entry, i) => entry.written || i < (at >= N_CHOICES ? N_CHOICES - 1 : N_CHOICES));
}

export interface Hover {
  card: HTMLElement;
  spoken: HTMLElement;
  refresh(): void; // after the replies were drawn again
}

export function hoverOver(
  host: HTMLElement,
  replies: RepliesView,
  model: Model,
  signal: AbortSignal | undefined,
): Hover {
  const card = h("div", { class: "sk-card", role: "group", hidden: true });
  const status = h("span", { class: "sk-spoken", role: "status" });
  let [spot, pinned]: [Spot | null, boolean] = [null, false];

  const choose = (feature: number) => {
    const again = model.get("colour_by") === "feature" && model.get("colour_feature") === feature;
    put<SteeringState>(model, again ? { colour_by: "none" } : { colour_feature: feature, colour_by: "feature" });
  };
  const move = () => {
    if (!spot || card.hidden) return;
    const frame = host.getBoundingClientRect();
    const scroller = spot.text.closest(".sk-turns")?.getBoundingClientRect();
    const rects = spot.span.getClientRects();
    const at = rects[rects.length - 1] ?? spot.span.getBoundingClientRect();
    if (scroller && (at.bottom < scroller.top || at.top > scroller.bottom)) {
      hide(); // scrolled away
      return;
    }
    const token = {
      left: at.left - frame.left,
      right: at.right - frame.left,
      top: at.top - frame.top,
      bottom: at.bottom - frame.top,
    };
    const size = { width: card.offsetWidth, height: card.offsetHeight };
    const seen = { top: Math.max(GAP, GAP - frame.top), bottom: Math.min(frame.height, innerHeight - frame.top) - GAP };
    const fits = seen.bottom - seen.top >= size.height ? seen : { top: GAP, bottom: frame.height - GAP };
    const to = place(token, size, { left: GAP, right: frame.width - GAP, ...fits });
    card.style.left = `${to.left - host.clientLeft}px`;
    card.style.top = `${to.top - host.clientTop}px`;
  };
  const show = (next: Spot, pin: boolean) => {
    spot?.span.classList.remove("sk-at");
    [spot, pinned] = [next, pin];
    spot.span.classList.add("sk-at");
    card.replaceChildren(...contents(model, spot, choose, pinned, hide));
    card.setAttribute("aria-label", `About the token ${spoken(spot.token)}`);
    card.classList.toggle("sk-pinned", pinned);
    card.hidden = false;
    press();
    move();
  };
  const hide = () => {
    if (card.contains(document.activeElement)) spot?.text.focus({ preventScroll: true });
    spot?.span.classList.remove("sk-at");
    [spot, pinned] = [null, false];
    card.hidden = true;
  };
  const press = () => {
    const on = model.get("colour_by") === "feature" ? model.get("colour_feature") : -1;
    for (const b of card.querySelectorAll<HTMLElement>(".sk-chip"))
      b.setAttribute("aria-pressed", String(Number(b.dataset.feature) === on));
  };

  replies.element.addEventListener("pointerover", (event) => {
    const next = pinned ? null : replies.spotOf(event.target);
    if (next && next.span !== spot?.span) show(next, false);
    else if (!next && !pinned) hide();
  });
  replies.element.addEventListener("pointerleave", () => {
    if (!pinned) hide();
  });
  host.addEventListener("click", (event) => {
    if (event.target instanceof Node && card.contains(event.target)) return;
    const next = replies.spotOf(event.target);
    if (next && String(document.getSelection() ?? "") !== "") return; // selecting text is not a click on a token
    if (next && !(pinned && next.span === spot?.span)) show(next, true);
    else if (pinned) hide();
  });
  replies.element.addEventListener("keydown", (event) => {
    const text = event.target instanceof HTMLElement && event.target.matches(".sk-said") ? event.target : null;
    if (!text) return;
    const here = spot?.text === text ? spot : null;
    if (event.key === "Enter" || event.key === " ") {
      if (!here) return;
      event.preventDefault();
      event.stopPropagation();
      show(here, true);
      card.querySelector<HTMLElement>("button")?.focus({ preventScroll: true });
      return;
    }
    const [on, back] = text.dir === "rtl" ? ["ArrowLeft", "ArrowRight"] : ["ArrowRight", "ArrowLeft"];
    const n = text.querySelectorAll(".sk-token").length;
    const to = rove(event, here?.index ?? -1, n, { on: [on, "ArrowDown"], back: [back, "ArrowUp"] });
    const next = to === null ? null : replies.spot(text, to);
    if (!next) return;
    next.span.scrollIntoView({ block: "nearest" });
    show(next, false);
    status.textContent = `${spoken(next.token)}, token ${next.index}${typeof next.nll === "number" ? `: ${surprise(next.nll)}` : ""}`;
  });
  host.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || card.hidden) return;
    event.preventDefault();
    event.stopPropagation();
    hide();
  });
  host.addEventListener("focusout", (event) => {
    const to = event.relatedTarget;
    if (!pinned && event.target === spot?.text && !(to instanceof Node && card.contains(to))) hide();
  });
  replies.element.addEventListener("scroll", move, { capture: true, passive: true });
  window.addEventListener("resize", move, signal ? { signal } : {});

  const refresh = () => {
    if (!spot) return;
    const next = replies.spot(spot.text, spot.index);
    if (!next || !spot.text.isConnected) hide();
    else if (next.detail !== spot.detail || next.nll !== spot.nll || next.token !== spot.token) show(next, pinned);
    else press();
  };
  return { card, spoken: status, refresh };
}

function contents(
  model: Model,
  spot: Spot,
  choose: (feature: number) => void,
  pinned: boolean,
  close: () => void,
): HTMLElement[] {
  const head = h(
    "div",
    { class: "sk-card-line" },
    h("code", {}, alone(spot.token)),
    h("span", { class: "sk-soft" }, `token ${spot.index}`),
  );
  if (pinned) {
    const cross = button("\u00d7", "sk-quiet sk-cross", close);
    cross.setAttribute("aria-label", "Close");
    head.append(cross);
  }
  const out: HTMLElement[] = [head];
  if (typeof spot.nll === "number") {
    const title = "how unlikely the unsteered model finds this token, and its probability there";
    out.push(
      h("p", { class: "sk-num", title }, h("span", { class: "sk-soft" }, "Unsteered model: "), surprise(spot.nll)),
    );
  }
  const choices = listed(spot.detail?.choices[spot.index] ?? [], spot.token);
  if (choices.length > 0) out.push(tableOf(choices));
  const firings = spot.detail ? rowsOf(spot.detail).strongest(spot.index, N_FEATURES) : [];
  if (firings.length > 0) {
    const top = firings[0]?.value ?? 1;
    const chips = firings.map((firing) => {
      const b = chip(model, firing.feature, choose, firing.value);
      b.style.setProperty("--a", (firing.value / top).toFixed(3));
      return b;
    });
    out.push(
      h("div", { class: "sk-chips", role: "group", "aria-label": "Strongest features at this token" }, ...chips),
    );
  }
  const hint = spot.detail
    ? pinned
      ? ""
      : "Click to keep this open."
    : spot.writing
      ? "More when the reply is finished."
      : spot.kept
        ? ""
        : "Only the latest run has candidates and features.";
  if (hint) out.push(h("p", { class: "sk-soft sk-hint" }, hint));
  return out;
}

function tableOf(choices: { choice: Choice; written: boolean }[]): HTMLElement {
  const top = Math.max(...choices.flatMap(({ choice }) => [choice[1], choice[2]]), 1e-9);
  const bar = (kind: string, value: number) => {
    const b = h("span", { class: kind });
    b.style.setProperty("--a", (value / top).toFixed(3));
    return b;
  };
  const rows = choices.map(({ choice: [token, before, after], written }) =>
    h(
      "tr",
      { class: written ? "sk-written" : null },
      h(
        "th",
        { scope: "row" },
        h("code", {}, alone(token)),
        written && h("span", { class: "sk-spoken" }, " (written)"),
      ),
      h("td", {}, probability(before)),
      h("td", {}, probability(after)),
      h("td", { class: "sk-bars", "aria-hidden": "true" }, bar("sk-before", before), bar("sk-after", after)),
    ),
  );
  const heads = ["token", "before", "after", ""].map((words, i) =>
    i < 3 ? h("th", { scope: "col" }, words) : h("td", { "aria-hidden": "true" }),
  );
  const table = h(
    "table",
    { "aria-label": "Candidates for this place: probability before and after steering" },
    h("thead", {}, h("tr", {}, ...heads)),
    h("tbody", {}, ...rows),
  );
  table.title = "before: the unsteered model, after: under this condition";
  return table;
}
