// What the server answers, and the requests that ask for it.

export type Voxel = [number, number, number]; // z, y, x

export interface TaskName {
  name: string;
  case: string;
  done: boolean;
}

export interface Study {
  title: string;
  description: string;
  who: string;
  segmenter: string;
  folder: string | null;
  clicks: number | null;
  target: "outline" | "glimpse" | "name" | "free";
  records: boolean;
  dicom: boolean;
  tasks: TaskName[];
}

export interface Opened {
  task: number;
  structure: string;
  case: string;
  modality: string;
  shape: Voxel;
  spacing: Voxel;
  clicks: number | null;
  target: Study["target"];
}

export interface Facts {
  step: number;
  left: number | null;
  ended: boolean;
  outcome: string;
  in_force: number;
  dice: number | null;
  encode_s: number | null;
  predict_s: number | null;
  voxels: number;
  error: string | null;
  spans: [number, number][] | null;
}

export interface Step {
  facts: Facts;
  voxels: Uint8Array;
}

export interface Thought {
  thought_s: number;
  pause_s: number;
}

export interface Ended {
  folder: string | null;
  results_hash: string | null;
  left: number;
  dice: Record<string, number>;
}

// A server on another machine is started with a token, which stands behind the # of its address and is never sent
// in one.
const token = new URLSearchParams(location.hash.slice(1)).get("token");

export class RefusedError extends Error {}

async function ask(path: string, message?: object): Promise<Response> {
  const headers: Record<string, string> = {};
  if (token) headers["Authorization"] = `Bearer ${token}`;
  if (message) headers["Content-Type"] = "application/json";
  const answer = await fetch(`api/${path}`, {
    method: message ? "POST" : "GET",
    headers,
    body: message ? JSON.stringify(message) : undefined,
  });
  if (!answer.ok) {
    const body = (await answer.json().catch(() => ({}))) as { detail?: string };
    throw new RefusedError(body.detail ?? `the server answered ${answer.status}`);
  }
  return answer;
}

async function step(path: string, message: object): Promise<Step> {
  const answer = await ask(path, message);
  const facts = JSON.parse(answer.headers.get("X-Meta") ?? "null") as Facts;
  return { facts, voxels: new Uint8Array(await answer.arrayBuffer()) };
}

export const api = {
  study: async (): Promise<Study> => (await ask("study")).json(),
  open: async (task: number): Promise<Opened> => (await ask("open", { task })).json(),
  image: async (): Promise<ArrayBuffer> => (await ask("image")).arrayBuffer(),
  target: async (): Promise<Uint8Array> => new Uint8Array(await (await ask("target")).arrayBuffer()),
  click: (zyx: Voxel, positive: boolean, thought: Thought) => step("click", { zyx, positive, ...thought }),
  undo: (thought: Thought) => step("undo", { ...thought }),
  finish: (thought: Thought) => step("finish", { ...thought }),
  curves: async (): Promise<Record<string, number[]>> => (await ask("curves")).json(),
  end: async (): Promise<Ended> => (await ask("end", {})).json(),
  mask: async (format: "nifti" | "dicom"): Promise<File> => {
    const answer = await ask(`mask?format=${format}`);
    const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? "mask";
    return new File([await answer.blob()], name);
  },
};
