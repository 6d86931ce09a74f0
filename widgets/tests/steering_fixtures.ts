// States of a steering panel, and ways to find and use its controls.

import type { Condition, Detail, Reply, Run, SteeringState, Turn } from "../src/steering/state";
import { all, float32, HOSTILE, int32, one } from "./support";

export const plain: Condition = { name: "unsteered", features: [], instruction: "", edits: "" };
export const gate: Condition = { name: "gate", features: [{ feature: 3, strength: 0.4 }], instruction: "", edits: "" };
export const base: SteeringState = {
  prompt: "Hi",
  chat: true,
  has_chat: true,
  conditions: [plain, gate],
  about: { "3": { name: " bridge gate", max: 20, recommended: 0.6 } },
  n_features: 16,
  unit: "norm",
  units: ["raw", "max", "norm"],
  residual_norm: 140,
  sweep_strengths: [0.2, 0.4],
  positions: "all",
  max_new_tokens: 8,
  temperature: 0,
  seed: 0,
  running: false,
  done: 0,
  total: 0,
  status: "",
  error: "",
  refused: "",
  picture_id: "",
  live: true,
  concept: "",
  ran: [],
  ran_unit: "norm",
  exchanges: [],
  details: [],
  runs: [],
  colour_by: "none",
  colour_feature: 0,
};
export const reply = (tokens: string[], changes: Partial<Reply> = {}): Reply => ({
  tokens,
  nll: tokens.map(() => 2),
  repetition: 0.19,
  mean_nll: 1.91,
  present: null,
  end: "eos",
  ...changes,
});
export const growing = (...tokens: string[]): Reply =>
  reply(tokens, { nll: [], repetition: null, mean_nll: null, end: "" });
export const detail: Detail = {
  start: int32(0, 2, 3, 3),
  feature: int32(3, 9, 9),
  value: float32(2, 1, 4),
  choices: [
    [
      ["I", 0.5, 0.6],
      [HOSTILE, 0.2, 0.1],
    ],
    [
      [" am", 0.01, 0.4],
      [" was", 0.9, 0.3],
    ],
    [[HOSTILE, 0.1, 0.1]],
  ],
};
export const TOKENS = ["I", " am", HOSTILE];
export const turn = (user = "Hi"): Turn => ({
  user,
  replies: [reply(TOKENS), reply(["We", "\n", "go"], { end: "length" })],
});
export const runOf = (exchanges: Turn[], changes: Partial<Run> = {}): Run => ({
  prompt: "Hi",
  chat: true,
  positions: "all",
  max_new_tokens: 8,
  temperature: 0,
  seed: 0,
  unit: "norm",
  conditions: [plain, gate],
  exchanges,
  started: "now",
  ...changes,
});
export const finished = (changes: Partial<SteeringState> = {}): SteeringState => ({
  ...base,
  ran: [plain, gate],
  exchanges: [turn()],
  details: [[detail, null]],
  runs: [runOf([turn()])],
  ...changes,
});
export const type = (
  input: HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement,
  value: string,
  event = "change",
) => {
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  if (event !== "input") input.dispatchEvent(new Event(event, { bubbles: true }));
};
export const named = <T extends HTMLElement = HTMLButtonElement>(el: Element, name: string): T => {
  const found = all<T>(el, "button, input, textarea").find(
    (b) => b.getAttribute("aria-label") === name || b.textContent === name,
  );
  if (!found) throw new Error(`nothing is called ${name}`);
  return found;
};
export const labelled = <T extends HTMLElement>(el: Element, label: string): T =>
  one<T>(all(el, "label").find((l) => l.textContent?.startsWith(label)) as Element, "input, select");
export const conditionBox = (el: Element, i: number) => all(el, ".sk-condition")[i] as HTMLElement;
export const spans = (el: Element, text: number) => all(all(el, ".sk-reply-text")[text] as Element, ".sk-token");
