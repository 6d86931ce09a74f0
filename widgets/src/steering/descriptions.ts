// Conditions, runs and replies in text. Pure: no document.

import { formatFixed, formatNumber, formatPlural, inputNumber } from "../shared/numbers";
import { nameText, tokenText } from "../shared/tokens";
import { isUnsteered } from "./condition";
import type { Condition, Reply, Run } from "./state";
import { formatStrength } from "./strengths";

export const POSITION_NAMES: Record<string, string> = {
  all: "all tokens",
  prompt: "the prompt only",
  generated: "new tokens only",
};

/** What a condition does to the model, one phrase each; `names` are those of features, where they are known. */
export function describeCondition(condition: Condition, unit: string, names: Record<string, string> = {}): string[] {
  if (isUnsteered(condition)) return ["as it is"];
  const features = condition.features.map(({ feature, strength }) => {
    const name = nameText(names[String(feature)] ?? "").trim();
    return `feature ${feature} ${name && `(${name}) `}at ${formatStrength(strength, unit)}`;
  });
  const instruction = condition.instruction && `\u201c${condition.instruction}\u201d`;
  return [...features, instruction, condition.edits].filter(Boolean);
}

const ENDINGS: Record<string, [string, string]> = {
  length: [", cut off", "The limit on new tokens was reached."],
  stopped: [", stopped", "Stopped before the end."],
};

/** The metrics of a reply, each with an explanation. */
export function replyMetrics({ tokens, mean_nll, repetition, end }: Reply): [string, string][] {
  const [suffix, explanation] = ENDINGS[end] ?? ["", ""];
  const out: [string, string][] = [];
  if (mean_nll !== null) {
    const title = "mean negative log-likelihood per token under the unsteered model, in nats";
    out.push([`nll ${formatFixed(mean_nll, 2)}`, title]);
  }
  if (repetition !== null) {
    const title = "fraction of four-token sequences that occurred before in the reply";
    out.push([`repeated ${inputNumber(repetition * 100, 2)} %`, title]);
  }
  out.push([formatPlural(tokens.length, "token") + suffix, explanation]);
  return out;
}

/** A probability in a few characters: 99.7 %, 68 %, 8.3 %, 0.09 %, < 0.01 %. */
export function formatProbability(p: number): string {
  const percent = p * 100;
  if (percent === 0) return "0 %";
  if (percent < 0.01) return "< 0.01 %";
  if (percent < 1) return `${formatFixed(percent, 2)} %`;
  if (percent < 10 || (percent >= 99 && percent < 99.95)) return `${formatFixed(percent, 1)} %`;
  return `${Math.round(percent)} %`;
}

/** A token's negative log-likelihood and its probability: "1.91 nats, 15 %". */
export const formatNll = (nll: number): string => `${formatFixed(nll, 2)} nats, ${formatProbability(Math.exp(-nll))}`;

/** The beginning of a text in at most `n` characters, cut between words. */
export function truncate(text: string, n = 32): string {
  const line = text.trim().replace(/\s+/g, " ");
  if (line.length <= n) return line;
  const cut = line.slice(0, n);
  return `${cut.replace(/\s+\S*$/, "") || cut}\u2026`;
}

export function runLabel({ prompt, conditions, seed }: Run): string {
  const opening = tokenText(truncate(prompt)) || "(empty prompt)";
  return `${opening} \u00b7 ${formatPlural(conditions.length, "condition")} \u00b7 seed ${seed}`;
}

/** The settings of a run, without its prompt and conditions. */
export function describeSettings(run: Pick<Run, "positions" | "temperature" | "seed" | "max_new_tokens">): string {
  const applied = `applied to ${POSITION_NAMES[run.positions] ?? run.positions}`;
  const sampling = `temperature ${formatNumber(run.temperature)}, seed ${run.seed}`;
  return `${applied}, at most ${run.max_new_tokens} new tokens, ${sampling}`;
}

export function runTitle(run: Run): string {
  const conditions = run.conditions.map((c) => `${c.name}: ${describeCondition(c, run.unit).join(", ")}`);
  return [run.prompt, ...conditions, describeSettings(run), run.started].filter(Boolean).join("\n");
}

/** A token of a reply: line breaks, tabs and joiners stay, other invisible characters are shown by code. */
export const replyToken = (token: string): string =>
  token
    .replace(/\r\n?/g, "\n")
    .split(/([\n\t\u200c\u200d])/)
    .map((part, i) => (i % 2 ? part : tokenText(part)))
    .join("");
