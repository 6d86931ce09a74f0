// The synced traits of SteeringPanel; the same names stand in saekit/widgets/steering_panel.py.

import type { AnyModel } from "@anywidget/types";
import type { Binary } from "../shared/arrays";
import type { WidgetState } from "../shared/refused";

export interface FeatureStrength {
  feature: number;
  strength: number;
}

export interface Condition {
  name: string;
  features: FeatureStrength[];
  instruction: string; // a sentence appended to the prompt
  edits: string; // a sentence about edits made in Python, which are shown and cannot be changed here
}

export interface FeatureInfo {
  name: string; // a short name, empty when unknown
  max: number; // its maximum in the index, 0 when unknown
  recommended: number | null; // as a fraction of the residual norm
  residual?: number; // the usual residual norm in raw activation of this feature
}

export interface Reply {
  tokens: string[];
  nll: (number | null)[];
  repetition: number | null;
  mean_nll: number | null;
  present: boolean | null;
  end: string; // "" while it is generated; then eos, length or stopped
}

export interface Turn {
  user: string;
  replies: Reply[];
}

/** A token that could have stood in a place, with its probability before and after steering. */
export type Candidate = [token: string, before: number, after: number];

export interface Detail {
  start?: Binary;
  feature?: Binary;
  value?: Binary;
  choices: Candidate[][];
}

export interface Run {
  prompt: string;
  chat: boolean;
  positions: string;
  max_new_tokens: number;
  temperature: number;
  seed: number;
  unit: string;
  conditions: Condition[];
  exchanges: Turn[];
  started: string;
}

export interface SteeringState extends WidgetState {
  prompt: string;
  chat: boolean;
  has_chat: boolean;
  conditions: Condition[];
  about: Record<string, FeatureInfo>;
  n_features: number;
  unit: string;
  units: string[];
  residual_norm: number;
  sweep_strengths: number[];
  positions: string;
  max_new_tokens: number;
  temperature: number;
  seed: number;
  running: boolean;
  done: number;
  total: number;
  status: string;
  error: string;
  live: boolean;
  concept: string;
  ran: Condition[];
  ran_unit: string;
  exchanges: Turn[];
  details: (Detail | null)[][];
  runs: Run[];
  colour_by: string;
  colour_feature: number;
}

/** One number per token of a reply, null where there is none. */
export type TokenValues = ArrayLike<number | null> | null;

export type Model = AnyModel<SteeringState & Record<string, unknown>>;
