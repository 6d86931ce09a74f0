// The synced traits of TrainingMonitor; the same names stand in saekit/widgets/training_monitor.py.

import type { Binary } from "../shared/arrays";

/** A histogram of activation densities with four bins per decade, from 10 ** low up to 1; empty before the first. */
export interface DensityHistogram {
  low?: number;
  counts?: number[];
  never?: number; // features that never fired
}

export interface MonitorState {
  status: string;
  message: string;
  names: string[];
  step: number;
  n_steps: number;
  n_tokens: number;
  total_tokens: number;
  rate: number;
  seconds: number;
  columns: Record<string, Binary>;
  densities: DensityHistogram[];
  live: boolean;
}
