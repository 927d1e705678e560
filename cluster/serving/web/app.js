// The playground: every part listens to the store; this starts them, and asks for a key where one is wanted.

import { call, shown, useKey } from "./api.js";
import { $ } from "./dom.js";
import { start } from "./session.js";
import "./asking.js";
import "./memory.js";
import "./reading.js";
import "./timeline.js";

const begin = () => shown($("session-problems"), async () => {
  const models = await call("v1/models");
  $("model").textContent = models.data.map(({ id, version }) => `${id}, version ${version}`).join(" · ");
  await start();
});

document.addEventListener("key-wanted", () => {
  $("key").hidden = false;
  $("key-value").focus();
});
$("key").addEventListener("submit", async (event) => {
  event.preventDefault();
  useKey($("key-value").value.trim());
  $("key-value").value = "";
  await begin();
});
$("theme").addEventListener("click", () => {
  const { style } = document.documentElement;
  const isDark = style.colorScheme ? style.colorScheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  style.colorScheme = isDark ? "light" : "dark";
});

begin();
