// The synced traits of TrainingMonitor; the same names stand in saekit/widgets/training_monitor.py.

import type { Binary } from "../shared/arrays";
import type { WidgetState } from "../shared/refused";

/** A histogram of activation densities with four bins per decade, from 10 ** low up to 1; empty before the first. */
export interface DensityHistogram {
  low?: number;
  counts?: number[];
  never?: number; // features that never fired
}

/** Values by logged step; a metric's values of the first SAE, then of the next. Empty before the first step. */
export interface MonitorColumns {
  step?: Binary; // int32
  n_tokens?: Binary; // float64
  loss?: Binary; // float32, as all below
  explained_variance?: Binary;
  l0?: Binary;
  dead_fraction?: Binary;
  tokens_per_second?: Binary;
  lr?: Binary;
}

export interface MonitorState extends WidgetState {
  status: string;
  message: string;
  names: string[];
  step: number;
  n_steps: number;
  n_tokens: number;
  total_tokens: number;
  rate: number;
  seconds: number;
  columns: MonitorColumns;
  densities: DensityHistogram[];
  live: boolean;
}
