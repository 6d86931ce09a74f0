// What Python and the panel tell each other. The same names stand in saekit/widgets/steering_panel.py.

import type { AnyModel } from "@anywidget/types";
import type { Binary } from "../shared/arrays";

export interface Strength {
  feature: number;
  strength: number;
}

export interface Condition {
  name: string;
  features: Strength[];
  instruction: string; // a sentence put behind the prompt
  edits: string; // a sentence about edits made in Python: shown, not changed here
}

export interface About {
  name: string; // tokens the feature promotes
  max: number; // its maximum in the index, 0 when unknown
  recommended: number | null; // as a share of the residual norm
}

export interface Reply {
  tokens: string[];
  nll: (number | null)[];
  repetition: number | null;
  mean_nll: number | null;
  present: boolean | null;
  end: string; // "" while it is written; eos, length or stopped
}

export interface Exchange {
  user: string;
  replies: Reply[];
}

export type Choice = [token: string, before: number, after: number];

export interface Detail {
  start?: Binary;
  feature?: Binary;
  value?: Binary;
  choices: Choice[][];
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
  exchanges: Exchange[];
  started: string;
}

export interface SteeringState {
  prompt: string;
  chat: boolean;
  has_chat: boolean;
  conditions: Condition[];
  about: Record<string, About>;
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
  exchanges: Exchange[];
  details: (Detail | null)[][];
  runs: Run[];
  colour_by: string;
  colour_feature: number;
}

export type Model = AnyModel<SteeringState & Record<string, unknown>>;
