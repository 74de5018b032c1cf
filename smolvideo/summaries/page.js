"use strict";
// Where the video plays in the page, a time is a jump in it; elsewhere it stays a link.
const video = document.getElementById("video");
for (const link of document.querySelectorAll("a[data-seconds]"))
  link.addEventListener("click", (event) => {
    if (!video || video.error || video.readyState === 0) return;
    event.preventDefault();
    video.currentTime = Number(link.dataset.seconds);
    video.play();
  });
