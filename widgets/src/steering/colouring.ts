// What colours the tokens of the replies: nothing, their loss under the unsteered model, or a feature's activation.

import { SparseActivations } from "../shared/arrays";
import type { DisplayedRun } from "./replies";
import type { Detail, TokenValues } from "./state";

export const MAX_NLL = 8; // nats at the end of the colour scale

export interface Colouring {
  values(turn: number, column: number): TokenValues;
  max: number; // at full colour
  note: string; // why there is no colour
}

const PENDING = "Colours appear when the replies are finished.";

export function replyColouring(run: DisplayedRun, by: string, feature: number): Colouring {
  if (by === "unlikely") return nllColouring(run);
  if (by === "feature") return featureColouring(run, feature);
  return { values: () => null, max: 0, note: "" };
}

function nllColouring({ exchanges, writing }: DisplayedRun): Colouring {
  const known = exchanges.some((turn) => turn.replies.some((reply) => reply.nll.length > 0));
  const note = known ? "" : writing ? PENDING : "The nll of these replies was not computed.";
  return { values: (turn, column) => exchanges[turn]?.replies[column]?.nll ?? null, max: MAX_NLL, note };
}

function featureColouring({ details, writing }: DisplayedRun, feature: number): Colouring {
  const values = (details ?? []).map((turn) =>
    turn.map((detail) => (detail ? detailActivations(detail).activationsOf(feature) : null)),
  );
  let max = 0;
  for (const reply of values.flat()) for (const value of reply ?? []) max = Math.max(max, value);
  let note = "";
  if (details === null) note = "Only the latest run has feature activations.";
  else if (max === 0 && values.flat().some(Boolean)) note = `Feature ${feature} does not fire on these replies.`;
  else if (max === 0) note = writing ? PENDING : "These replies have no feature activations.";
  return { values: (turn, column) => values[turn]?.[column] ?? null, max, note };
}

const parsed = new WeakMap<Detail, SparseActivations>();
export function detailActivations(detail: Detail): SparseActivations {
  const activations = parsed.get(detail) ?? SparseActivations.from(detail);
  parsed.set(detail, activations);
  return activations;
}
