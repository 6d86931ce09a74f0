// A small card by the token under the pointer or the keyboard's cursor. A click or Enter pins it.

import "./token_card.css";
import { h, rovingIndex } from "../shared/dom";
import { setTraits } from "../shared/model";
import { tokenSpeech } from "../shared/tokens";
import { formatNll } from "./descriptions";
import type { RepliesView, ReplyTokenInfo } from "./replies";
import type { Model, SteeringState } from "./state";
import { cardContents } from "./token_card_contents";

const GAP = 6;

interface Rect {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** Where a card of this size goes: below the token, else above it, else beside it; always inside the bounds. */
export function placeCard(
  token: Rect,
  size: { width: number; height: number },
  bounds: Rect,
): { left: number; top: number } {
  const clamp = (value: number, low: number, high: number) => Math.max(low, Math.min(value, high));
  const left = clamp(token.left, bounds.left, bounds.right - size.width);
  if (token.bottom + GAP + size.height <= bounds.bottom) return { left, top: token.bottom + GAP };
  if (token.top - GAP - size.height >= bounds.top) return { left, top: token.top - GAP - size.height };
  const top = clamp(token.bottom + GAP, bounds.top, bounds.bottom - size.height);
  if (token.right + GAP + size.width <= bounds.right) return { left: token.right + GAP, top };
  if (token.left - GAP - size.width >= bounds.left) return { left: token.left - GAP - size.width, top };
  return { left, top };
}

export interface TokenCard {
  element: HTMLElement;
  status: HTMLElement; // what screen readers say
  refresh(): void; // after the replies were drawn again
}

export function tokenCard(
  host: HTMLElement,
  replies: RepliesView,
  model: Model,
  signal: AbortSignal | undefined,
): TokenCard {
  const card = h("div", { class: "sk-card", role: "group", hidden: true });
  const status = h("span", { class: "sk-visually-hidden", role: "status" });
  let current: ReplyTokenInfo | null = null;
  let pinned = false;

  const colourBy = (feature: number) => {
    const again = model.get("colour_by") === "feature" && model.get("colour_feature") === feature;
    setTraits<SteeringState>(model, again ? { colour_by: "none" } : { colour_feature: feature, colour_by: "feature" });
  };
  const move = () => {
    if (!current || card.hidden) return;
    const frame = host.getBoundingClientRect();
    const scroller = current.text.closest(".sk-turns")?.getBoundingClientRect();
    const rect = [...current.span.getClientRects()].at(-1) ?? current.span.getBoundingClientRect();
    if (scroller && (rect.bottom < scroller.top || rect.top > scroller.bottom)) {
      hide(); // scrolled away
      return;
    }
    const token = {
      left: rect.left - frame.left,
      right: rect.right - frame.left,
      top: rect.top - frame.top,
      bottom: rect.bottom - frame.top,
    };
    const size = { width: card.offsetWidth, height: card.offsetHeight };
    const whole = { top: GAP, bottom: frame.height - GAP };
    const onScreen = {
      top: Math.max(GAP, GAP - frame.top),
      bottom: Math.min(frame.height, innerHeight - frame.top) - GAP,
    };
    const vertical = onScreen.bottom - onScreen.top >= size.height ? onScreen : whole;
    const { left, top } = placeCard(token, size, { left: GAP, right: frame.width - GAP, ...vertical });
    card.style.left = `${left - host.clientLeft}px`;
    card.style.top = `${top - host.clientTop}px`;
  };
  const show = (token: ReplyTokenInfo, pin: boolean) => {
    current?.span.classList.remove("sk-active");
    [current, pinned] = [token, pin];
    token.span.classList.add("sk-active");
    card.replaceChildren(...cardContents(model, token, colourBy, pin ? hide : null));
    card.setAttribute("aria-label", `About the token ${tokenSpeech(token.token)}`);
    card.classList.toggle("sk-pinned", pin);
    card.hidden = false;
    drawPressed();
    move();
  };
  const hide = () => {
    if (card.contains(document.activeElement)) current?.text.focus({ preventScroll: true });
    current?.span.classList.remove("sk-active");
    [current, pinned] = [null, false];
    card.hidden = true;
  };
  const drawPressed = () => {
    const feature = model.get("colour_by") === "feature" ? model.get("colour_feature") : -1;
    for (const chip of card.querySelectorAll<HTMLElement>(".sk-chip")) {
      chip.setAttribute("aria-pressed", String(Number(chip.dataset.feature) === feature));
    }
  };

  replies.element.addEventListener("pointerover", (event) => {
    if (pinned) return;
    const token = replies.tokenOf(event.target);
    if (!token) hide();
    else if (token.span !== current?.span) show(token, false);
  });
  replies.element.addEventListener("pointerleave", () => {
    if (!pinned) hide();
  });
  host.addEventListener("click", (event) => {
    if (event.target instanceof Node && card.contains(event.target)) return;
    const token = replies.tokenOf(event.target);
    if (token && String(document.getSelection() ?? "") !== "") return; // selecting text is not a click on a token
    if (token && !(pinned && token.span === current?.span)) show(token, true);
    else if (pinned) hide();
  });
  replies.element.addEventListener("keydown", (event) => {
    const text = event.target instanceof HTMLElement && event.target.matches(".sk-reply-text") ? event.target : null;
    if (!text) return;
    const active = current?.text === text ? current : null;
    if (event.key === "Enter" || event.key === " ") {
      if (!active) return;
      event.preventDefault();
      event.stopPropagation();
      show(active, true);
      card.querySelector<HTMLElement>("button")?.focus({ preventScroll: true });
      return;
    }
    const [right, left] = text.dir === "rtl" ? ["ArrowLeft", "ArrowRight"] : ["ArrowRight", "ArrowLeft"];
    const keys = { forward: [right, "ArrowDown"], backward: [left, "ArrowUp"] };
    const index = rovingIndex(event, active?.index ?? -1, text.querySelectorAll(".sk-token").length, keys);
    const token = index === null ? null : replies.tokenAt(text, index);
    if (!token) return;
    token.span.scrollIntoView({ block: "nearest" });
    show(token, false);
    const nll = typeof token.nll === "number" ? `: ${formatNll(token.nll)}` : "";
    status.textContent = `${tokenSpeech(token.token)}, token ${token.index}${nll}`;
  });
  host.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || card.hidden) return;
    event.preventDefault();
    event.stopPropagation();
    hide();
  });
  host.addEventListener("focusout", (event) => {
    const entersCard = event.relatedTarget instanceof Node && card.contains(event.relatedTarget);
    if (!pinned && event.target === current?.text && !entersCard) hide();
  });
  replies.element.addEventListener("scroll", move, { capture: true, passive: true });
  window.addEventListener("resize", move, signal ? { signal } : {});

  const refresh = () => {
    if (!current) return;
    const { text, index, detail, nll, token } = current;
    const next = replies.tokenAt(text, index);
    if (!next || !text.isConnected) hide();
    else if (next.detail !== detail || next.nll !== nll || next.token !== token) show(next, pinned);
    else drawPressed();
  };
  return { element: card, status, refresh };
}
